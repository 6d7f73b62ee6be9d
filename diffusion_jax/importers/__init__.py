"""Other people's files, read with care, and written for them."""
