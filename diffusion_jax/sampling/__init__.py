"""Solvers, one a file, the paths that they follow, and the loop that runs them."""

from collections.abc import Callable

from diffusion_jax.sampling.ddim import ddim
from diffusion_jax.sampling.dpmpp_2m import dpmpp_2m
from diffusion_jax.sampling.evaluations import count_evaluations
from diffusion_jax.sampling.grids import SPACINGS, make_path
from diffusion_jax.sampling.heun import heun
from diffusion_jax.sampling.loop import Film, sample
from diffusion_jax.sampling.original import original
from diffusion_jax.sampling.solver import Solver, memoryless

# What `config.sampling.solver` can be. Options are keyword arguments, and a section of the config.
SOLVERS: dict[str, Callable[..., Solver]] = {
    "ddim": ddim,
    "heun": heun,
    "dpmpp_2m": dpmpp_2m,
    "original": original,
}

__all__ = [
    "SOLVERS",
    "SPACINGS",
    "Film",
    "Solver",
    "count_evaluations",
    "make_path",
    "memoryless",
    "sample",
]
