"""The forward process q and the reverse process p, one function per equation.

Throughout, x0 and x are images (batch, height, width, channels) with x0 in [-1, 1]; `now` is the
level of x, and `next` the less noisy one after it. "DDPM" is arXiv:2006.11239, "Improved DDPM"
arXiv:2102.09672; their alpha-bar is signal^2, and 1 - alpha-bar is noise^2.
"""

from dataclasses import replace

import jax.numpy as jnp

from diffusion_jax.diffusion.step_coefficients import StepCoefficients
from diffusion_jax.diffusion.types import (
    Gaussian,
    Images,
    Leaf,
    Level,
    PerExample,
    PerImage,
    Prediction,
)


def per_image(number: Leaf) -> PerImage:
    """A number of a level, as float32 and in a shape that multiplies a batch of images."""
    number = jnp.asarray(number, jnp.float32)
    return number if number.ndim == 0 else number[:, None, None, None]


def mean_per_example(values: Images) -> PerExample:
    """The mean over height, width and channels."""
    return jnp.mean(values, axis=(1, 2, 3))


def q_sample(level: Level, x0: Images, noise: Images) -> Images:
    """Draws x ~ q(x | x0) = N(signal x0, noise^2 I). DDPM eq. 4."""
    return per_image(level.alpha) * x0 + per_image(level.sigma) * noise


def x0_from_eps(level: Level, x: Images, noise: Images) -> Images:
    """x0 = (x - noise eps) / signal: `q_sample` solved for x0."""
    return (x - per_image(level.sigma) * noise) / per_image(level.alpha)


def eps_from_x0(level: Level, x: Images, x0: Images) -> Images:
    """eps = (x - signal x0) / noise: `q_sample` solved for the noise."""
    return (x - per_image(level.alpha) * x0) / per_image(level.sigma)


def posterior_mean(step: StepCoefficients, x0: Images, x: Images) -> Images:
    """The mean of q(x_next | x, x0). DDPM eq. 7.

    In the terms of DDPM:
    sqrt(abar_{t-1}) beta_t / (1 - abar_t) x0 + sqrt(alpha_t) (1 - abar_{t-1}) / (1 - abar_t) x_t.
    """
    return per_image(step.posterior_x0) * x0 + per_image(step.posterior_x) * x


def q_posterior(step: StepCoefficients, x0: Images, x: Images) -> Gaussian:
    """q(x_next | x, x0). DDPM eq. 6.

    At the clean image its variance is truly 0; it is given as in the step before.
    """
    return Gaussian(posterior_mean(step, x0, x), per_image(step.log_posterior_variance))


def learned_log_variance(step: StepCoefficients, prediction: Prediction) -> Images | None:
    """log sigma^2 = v log beta_t + (1 - v) log beta-tilde_t. Improved DDPM eq. 15.

    Or what the network says of it directly; None if it has learned no variance. v is unbounded; the
    result is kept within +-30, where exp is still harmless.
    """
    log_variance, v = prediction.log_variance, prediction.variance_fraction
    if v is not None:
        largest = jnp.log(per_image(step.beta))
        smallest = per_image(step.log_posterior_variance)
        log_variance = v * largest + (1 - v) * smallest
    return None if log_variance is None else jnp.clip(log_variance, -30, 30)


def small_log_variance(step: StepCoefficients) -> PerImage:
    """log beta-tilde, of q(x_next | x, x0): right for data that are one image. DDPM section 3.2."""
    return per_image(step.log_posterior_variance)


def large_log_variance(step: StepCoefficients) -> PerImage:
    """log beta, of q(x | x_next): right for data that are standard normal. DDPM section 3.2.

    At the clean image it is the small one, with which the decoder is more likely.
    """
    log_beta = jnp.log(per_image(step.beta))
    return jnp.where(per_image(step.posterior_variance) > 0, log_beta, small_log_variance(step))


# What the variance of p can be where none is learned.
FIXED_VARIANCES = {"small": small_log_variance, "large": large_log_variance}


def p_distribution(
    step: StepCoefficients, prediction: Prediction, x: Images, *, fixed: str = "small"
) -> Gaussian:
    """p(x_next | x): the posterior with the predicted x0, and the learned variance if any.

    fixed: one of `FIXED_VARIANCES`, where none is learned.
    """
    mean = posterior_mean(step, prediction.x0, x)
    log_variance = learned_log_variance(step, prediction)
    return Gaussian(mean, FIXED_VARIANCES[fixed](step) if log_variance is None else log_variance)


def clip_prediction(prediction: Prediction) -> Prediction:
    """The same prediction with x0 clipped to [-1, 1]; the noise stays as it was."""
    return replace(prediction, x0=jnp.clip(prediction.x0, -1, 1))
