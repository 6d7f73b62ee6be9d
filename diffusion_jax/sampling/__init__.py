"""Samplers: one file for each solver, and the loop that runs them."""

from diffusion_jax.sampling.ddim import ddim_step
from diffusion_jax.sampling.loop import sample

__all__ = ["ddim_step", "sample"]
