"""Samplers: one file for each solver, and the loop that runs them."""

from diffusion_jax.sampling.ddim import ddim_step
from diffusion_jax.sampling.loop import sample
from diffusion_jax.sampling.original import reference_step

# What `config.sampling.sampler` can name.
SAMPLERS = {"ddim": ddim_step, "reference": reference_step}

__all__ = ["SAMPLERS", "ddim_step", "reference_step", "sample"]
