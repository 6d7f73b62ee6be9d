"""Pictures of many images: captioned grids, film strips, and a gallery for notebooks."""
