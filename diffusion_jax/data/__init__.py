"""Image datasets, and the order in which training reads them."""

from diffusion_jax.data.cache import ArraySource, Description
from diffusion_jax.data.folder_options import FolderOptions
from diffusion_jax.data.pipeline import batches
from diffusion_jax.data.sources import Source, make_source

__all__ = ["ArraySource", "Description", "FolderOptions", "Source", "batches", "make_source"]
