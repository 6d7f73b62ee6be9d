"""Pixel-space diffusion models in JAX: schedules, losses, samplers, a U-Net and its training."""
