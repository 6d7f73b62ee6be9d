"""Pixel-space diffusion models in JAX: schedules, losses, samplers, a U-Net and its training."""

from diffusion_jax import guidance, keys, losses, process, sampling, schedules, timesteps
from diffusion_jax.models import UNet
from diffusion_jax.schedules import Schedule, make_schedule
from diffusion_jax.types import Denoiser, Gaussian, NetworkOutput, Prediction

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
