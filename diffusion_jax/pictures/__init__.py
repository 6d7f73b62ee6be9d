"""Gallery of images: grids with captions, and film strips."""
