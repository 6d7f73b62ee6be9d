"""Guidance by a classifier of noisy images. Diffusion models beat GANs (arXiv:2105.05233)."""

from collections.abc import Callable
from dataclasses import replace

import jax
import jax.numpy as jnp

from diffusion_jax.diffusion.process import per_image
from diffusion_jax.diffusion.types import Denoiser, Images, Level, PerExample, Prediction, Scalar

# (x, level) -> log p(y given x) of each image (batch,), for its wanted class y, up to a constant.
LogProbability = Callable[[Images, Level], PerExample]


def classifier_guidance(
    denoiser: Denoiser,
    log_probability: LogProbability,
    guidance_scale: Scalar,
) -> Denoiser:
    """Returns the denoiser whose score has s grad_x log p(y | x) added.

    eps - s sigma g and x0 + s sigma^2 / alpha g, with g = grad_x log p(y | x): algorithm 2, at any
    level.

    guidance_scale: s; with 1 and an exact classifier, this is the conditional denoiser.
    """

    def guided(x: Images, level: Level) -> Prediction:
        prediction, gradient = denoiser(x, level), _gradient(log_probability, x, level)
        a, s = per_image(level.alpha), per_image(level.sigma)
        return replace(
            prediction,
            x0=prediction.x0 + guidance_scale * s**2 / a * gradient,
            eps=prediction.eps - guidance_scale * s * gradient,
        )

    return guided


def shifted_mean(
    denoiser: Denoiser,
    log_probability: LogProbability,
    guidance_scale: Scalar,
) -> Denoiser:
    """Returns the denoiser with s grad_x log p(y | x) as the `mean_gradient` of its predictions.

    A solver adds the variance of its step times this to its mean: algorithm 1.
    """

    def guided(x: Images, level: Level) -> Prediction:
        gradient = guidance_scale * _gradient(log_probability, x, level)
        return replace(denoiser(x, level), mean_gradient=gradient)

    return guided


def _gradient(log_probability: LogProbability, x: Images, level: Level) -> Images:
    return jax.grad(lambda x: jnp.sum(log_probability(x, level)))(x)
