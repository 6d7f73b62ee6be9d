"""Pixel-space diffusion models in JAX: schedules, losses, samplers, a U-Net and its training."""

from diffusion_jax import sampling
from diffusion_jax.diffusion import guidance, keys, losses, process, schedules, timesteps
from diffusion_jax.diffusion.schedules import Schedule, make_schedule
from diffusion_jax.diffusion.types import Denoiser, Gaussian, NetworkOutput, Prediction
from diffusion_jax.models import UNet

__all__ = [
    "Denoiser",
    "Gaussian",
    "NetworkOutput",
    "Prediction",
    "Schedule",
    "UNet",
    "guidance",
    "keys",
    "losses",
    "make_schedule",
    "process",
    "sampling",
    "schedules",
    "timesteps",
]
