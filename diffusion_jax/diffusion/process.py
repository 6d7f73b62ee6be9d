"""The forward process q and the reverse process p, one function per equation.

Throughout, x0 and x are images (batch, height, width, channels) with x0 in [-1, 1]; `step` has the
coefficients of the step from the level of x to a less noisy one, `next`. "DDPM" is
arXiv:2006.11239, "Improved DDPM" arXiv:2102.09672; their alpha-bar is alpha^2, and
1 - alpha-bar is sigma^2.

The last functions are wrappers of denoisers that clip the predicted x0 to the range of the data,
which large guidance scales exceed.
"""

from dataclasses import replace

import jax.numpy as jnp

from diffusion_jax.diffusion.step_coefficients import StepCoefficients
from diffusion_jax.diffusion.types import (
    Denoiser,
    Gaussian,
    Images,
    Leaf,
    Level,
    PerExample,
    PerImage,
    Prediction,
    Scalar,
)


def per_image(number: Leaf) -> PerImage:
    """Casts to float32; (batch,) becomes (batch, 1, 1, 1), to broadcast over images."""
    number = jnp.asarray(number, jnp.float32)
    return number if number.ndim == 0 else number[:, None, None, None]


def mean_per_example(values: Images) -> PerExample:
    """Returns the mean over height, width and channels."""
    return jnp.mean(values, axis=(1, 2, 3))


def q_sample(level: Level, x0: Images, noise: Images) -> Images:
    """Samples x ~ q(x | x0) = N(alpha x0, sigma^2 I). DDPM eq. 4."""
    return per_image(level.alpha) * x0 + per_image(level.sigma) * noise


def x0_from_eps(level: Level, x: Images, eps: Images) -> Images:
    """x0 = (x - sigma eps) / alpha: `q_sample` solved for x0."""
    return (x - per_image(level.sigma) * eps) / per_image(level.alpha)


def eps_from_x0(level: Level, x: Images, x0: Images) -> Images:
    """eps = (x - alpha x0) / sigma: `q_sample` solved for eps."""
    return (x - per_image(level.alpha) * x0) / per_image(level.sigma)


def posterior_mean(step: StepCoefficients, x0: Images, x: Images) -> Images:
    """Returns the mean of q(x_next | x, x0). DDPM eq. 7.

    In the terms of DDPM:
    sqrt(abar_{t-1}) beta_t / (1 - abar_t) x0 + sqrt(alpha_t) (1 - abar_{t-1}) / (1 - abar_t) x_t.
    """
    return per_image(step.posterior_x0) * x0 + per_image(step.posterior_x) * x


def q_posterior(step: StepCoefficients, x0: Images, x: Images) -> Gaussian:
    """q(x_next | x, x0). DDPM eq. 6.

    At the clean image the variance is 0, and is replaced by the one of the step before.
    """
    return Gaussian(posterior_mean(step, x0, x), per_image(step.log_posterior_variance))


def learned_log_variance(step: StepCoefficients, prediction: Prediction) -> Images | None:
    """log sigma^2 = v log beta_t + (1 - v) log beta-tilde_t. Improved DDPM eq. 15.

    Or the log variance that the network learned directly; None without a learned variance. v is
    unbounded; the result is clipped to +-30, where exp is still harmless.
    """
    log_variance, v = prediction.log_variance, prediction.variance_fraction
    if v is not None:
        largest = jnp.log(per_image(step.beta))
        smallest = per_image(step.log_posterior_variance)
        log_variance = v * largest + (1 - v) * smallest
    return None if log_variance is None else jnp.clip(log_variance, -30, 30)


def small_log_variance(step: StepCoefficients) -> PerImage:
    """log beta-tilde, of q(x_next | x, x0); optimal if all data are one image. DDPM section 3.2."""
    return per_image(step.log_posterior_variance)


def large_log_variance(step: StepCoefficients) -> PerImage:
    """log beta, of q(x | x_next); optimal for standard normal data. DDPM section 3.2.

    At the clean image it is the small one, with which the decoder has a higher likelihood.
    """
    log_beta = jnp.log(per_image(step.beta))
    return jnp.where(per_image(step.posterior_variance) > 0, log_beta, small_log_variance(step))


# The choices of the variance of p where none is learned.
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
    """Returns the prediction with x0 clipped to [-1, 1] and eps unchanged."""
    return replace(prediction, x0=jnp.clip(prediction.x0, -1, 1))


def clip_x0(denoiser: Denoiser) -> Denoiser:
    """Clips the predicted x0 to [-1, 1], and recomputes eps from it."""

    def clipped(x: Images, level: Level) -> Prediction:
        prediction = clip_prediction(denoiser(x, level))
        return replace(prediction, eps=eps_from_x0(level, x, prediction.x0))

    return clipped


def clip_x0_only(denoiser: Denoiser) -> Denoiser:
    """Clips the predicted x0 to [-1, 1], and leaves eps inconsistent with it."""
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
