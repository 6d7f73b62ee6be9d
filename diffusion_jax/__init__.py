"""Pixel-space diffusion models in JAX: levels, losses, solvers, networks and their training."""

from diffusion_jax import sampling
from diffusion_jax.diffusion import guidance, keys, losses, parametrisations, paths, process
from diffusion_jax.diffusion.parametrisations import denoiser_from_network
from diffusion_jax.diffusion.schedules import make_schedule
from diffusion_jax.diffusion.types import Denoiser, Gaussian, Level, NetworkOutput, Prediction
from diffusion_jax.models import MODELS, DiT, UNet

__all__ = [
    "MODELS",
    "Denoiser",
    "DiT",
    "Gaussian",
    "Level",
    "NetworkOutput",
    "Prediction",
    "UNet",
    "denoiser_from_network",
    "guidance",
    "keys",
    "losses",
    "make_schedule",
    "parametrisations",
    "paths",
    "process",
    "sampling",
]
