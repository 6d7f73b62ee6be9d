"""Solvers (one per file), spacings, and the sampling loop."""

from collections.abc import Callable

from diffusion_jax.sampling.evaluation_count import count_evaluations
from diffusion_jax.sampling.loop import Trajectory, sample
from diffusion_jax.sampling.solver import Solver, memoryless
from diffusion_jax.sampling.solvers.ddim import ddim
from diffusion_jax.sampling.solvers.ddpm import ddpm
from diffusion_jax.sampling.solvers.dpmpp_2m import dpmpp_2m
from diffusion_jax.sampling.solvers.dpmpp_2s import dpmpp_2s
from diffusion_jax.sampling.solvers.dpmpp_3m import dpmpp_3m
from diffusion_jax.sampling.solvers.dpmpp_sde_2m import dpmpp_sde_2m
from diffusion_jax.sampling.solvers.euler import euler
from diffusion_jax.sampling.solvers.euler_ancestral import euler_ancestral
from diffusion_jax.sampling.solvers.heun import heun
from diffusion_jax.sampling.solvers.original import original
from diffusion_jax.sampling.solvers.pndm import pndm
from diffusion_jax.sampling.solvers.unipc import unipc
from diffusion_jax.sampling.spacing import SPACINGS, make_sampling_schedule

# The choices of `config.sampling.solver`. Options are keyword arguments, and a config section.
SOLVERS: dict[str, Callable[..., Solver]] = {
    "ddim": ddim,
    "heun": heun,
    "dpmpp_2m": dpmpp_2m,
    "original": original,
    "euler": euler,
    "euler_ancestral": euler_ancestral,
    "ddpm": ddpm,
    "dpmpp_2s": dpmpp_2s,
    "dpmpp_sde_2m": dpmpp_sde_2m,
    "dpmpp_3m": dpmpp_3m,
    "unipc": unipc,
    "pndm": pndm,
}

__all__ = [
    "SOLVERS",
    "SPACINGS",
    "Solver",
    "Trajectory",
    "count_evaluations",
    "make_sampling_schedule",
    "memoryless",
    "sample",
]
