"""Datasets and the order in which training reads them."""

from diffusion_jax.data.pipeline import batches
from diffusion_jax.data.sources import ArraySource, Source, make_source

__all__ = ["ArraySource", "Source", "batches", "make_source"]
