"""Thresholding: wrappers that keep the predicted x0 in the range of images.

Large guidance scales push x0 out of [-1, 1], the range of the data.
"""

from dataclasses import replace

import jax.numpy as jnp

from diffusion_jax.diffusion.process import clip_prediction, eps_from_x0
from diffusion_jax.diffusion.types import Denoiser, Images, Level, Prediction, Scalar


def clip_x0(denoiser: Denoiser) -> Denoiser:
    """Clips the predicted x0 to [-1, 1], and recomputes eps from it."""

    def clipped(x: Images, level: Level) -> Prediction:
        prediction = clip_prediction(denoiser(x, level))
        return replace(prediction, eps=eps_from_x0(level, x, prediction.x0))

    return clipped


def clip_x0_alone(denoiser: Denoiser) -> Denoiser:
    """Clips the predicted x0 to [-1, 1]; eps is unchanged, though it no longer fits x0."""
    return lambda x, level: clip_prediction(denoiser(x, level))


def dynamic_threshold(denoiser: Denoiser, quantile: Scalar) -> Denoiser:
    """Clips x0 to [-s, s] and divides by s, with s the quantile of |x0|, but at least 1.

    Imagen (arXiv:2205.11487), section 2.3. s is computed for each image. eps is recomputed from
    the new x0. quantile: in (0, 1], such as 0.995.
    """

    def thresholded(x: Images, level: Level) -> Prediction:
        prediction = denoiser(x, level)
        s = jnp.quantile(jnp.abs(prediction.x0), quantile, axis=(1, 2, 3), keepdims=True)
        s = jnp.maximum(s, 1.0)
        x0 = jnp.clip(prediction.x0, -s, s) / s
        return replace(prediction, x0=x0, eps=eps_from_x0(level, x, x0))

    return thresholded
