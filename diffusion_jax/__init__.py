"""Pixel-space diffusion models in JAX: levels, losses, solvers, networks and their training."""

from diffusion_jax import sampling
from diffusion_jax.config.named_configs import get_config as config
from diffusion_jax.diffusion import (
    guidance,
    keys,
    losses,
    parameterizations,
    process,
    sampling_schedule,
)
from diffusion_jax.diffusion.parameterizations import denoiser_from_network
from diffusion_jax.diffusion.schedules import make_schedule
from diffusion_jax.diffusion.types import Denoiser, Gaussian, Level, NetworkOutput, Prediction
from diffusion_jax.models import MODELS, DiT, UNet
from diffusion_jax.pictures.gallery import Gallery
from diffusion_jax.runs.run import Run, load, train

__version__ = "0.1.0"

__all__ = [
    "MODELS",
    "Denoiser",
    "DiT",
    "Gallery",
    "Gaussian",
    "Level",
    "NetworkOutput",
    "Prediction",
    "Run",
    "UNet",
    "config",
    "denoiser_from_network",
    "guidance",
    "keys",
    "load",
    "losses",
    "make_schedule",
    "parameterizations",
    "process",
    "sampling",
    "sampling_schedule",
    "train",
]
