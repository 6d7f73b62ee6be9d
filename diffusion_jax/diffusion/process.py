"""The forward process q and the reverse process p, one function per equation.

Throughout: x0 and x_t are images (batch, height, width, channels) with x0 in [-1, 1]; t (batch,)
is the step in the schedule's own chain, 1 .. num_steps. "DDPM" is arXiv:2006.11239, "Improved DDPM"
arXiv:2102.09672.
"""

from collections.abc import Callable
from dataclasses import replace

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from diffusion_jax.diffusion.schedules import Schedule
from diffusion_jax.diffusion.types import (
    Gaussian,
    Images,
    LabelledDenoiser,
    Labels,
    Leaf,
    NetworkOutput,
    Prediction,
    Steps,
)


def at(table: Leaf, t: Steps) -> Float[Array, "batch 1 1 1"]:
    """table[t], shaped to multiply a batch of images."""
    return jnp.asarray(table, jnp.float32)[t][:, None, None, None]


def q_sample(schedule: Schedule, x0: Images, t: Steps, noise: Images) -> Images:
    """Draws x_t ~ q(x_t | x_0) = N(sqrt(abar_t) x_0, (1 - abar_t) I). DDPM eq. 4."""
    signal = jnp.sqrt(at(schedule.alphas_bar, t))
    return signal * x0 + jnp.sqrt(at(schedule.one_minus_alphas_bar, t)) * noise


def x0_from_noise(schedule: Schedule, x_t: Images, t: Steps, noise: Images) -> Images:
    """x_0 = (x_t - sqrt(1 - abar_t) noise) / sqrt(abar_t): `q_sample` solved for x_0."""
    scaled = jnp.sqrt(at(schedule.one_minus_alphas_bar, t)) * noise
    return (x_t - scaled) / jnp.sqrt(at(schedule.alphas_bar, t))


def noise_from_x0(schedule: Schedule, x_t: Images, t: Steps, x0: Images) -> Images:
    """noise = (x_t - sqrt(abar_t) x_0) / sqrt(1 - abar_t): `q_sample` solved for the noise."""
    scaled = jnp.sqrt(at(schedule.alphas_bar, t)) * x0
    return (x_t - scaled) / jnp.sqrt(at(schedule.one_minus_alphas_bar, t))


def posterior_variance(schedule: Schedule, t: Steps) -> Float[Array, "batch 1 1 1"]:
    """beta-tilde_t = (1 - abar_{t-1}) / (1 - abar_t) beta_t. DDPM eq. 7."""
    before = at(schedule.one_minus_alphas_bar, t - 1)
    return before / at(schedule.one_minus_alphas_bar, t) * at(schedule.betas, t)


def posterior_mean(schedule: Schedule, x0: Images, x_t: Images, t: Steps) -> Images:
    """mu-tilde, the mean of q(x_{t-1} | x_t, x_0). DDPM eq. 7:

    sqrt(abar_{t-1}) beta_t / (1 - abar_t) x_0 + sqrt(alpha_t) (1 - abar_{t-1}) / (1 - abar_t) x_t
    """
    whole = at(schedule.one_minus_alphas_bar, t)
    x0_weight = jnp.sqrt(at(schedule.alphas_bar, t - 1)) * at(schedule.betas, t) / whole
    x_t_weight = jnp.sqrt(at(schedule.alphas, t)) * at(schedule.one_minus_alphas_bar, t - 1) / whole
    return x0_weight * x0 + x_t_weight * x_t


def q_posterior(schedule: Schedule, x0: Images, x_t: Images, t: Steps) -> Gaussian:
    """q(x_{t-1} | x_t, x_0). DDPM eq. 6. At t = 1 its variance, truly 0, is given as at t = 2."""
    log_variance = at(schedule.log_posterior_variance, t)
    return Gaussian(posterior_mean(schedule, x0, x_t, t), log_variance)


def learned_log_variance(schedule: Schedule, t: Steps, fraction: Images) -> Images:
    """log sigma^2 = v log beta_t + (1 - v) log beta-tilde_t. Improved DDPM eq. 15.

    fraction: v, unbounded; the result is kept within +-30, where exp is still harmless.
    """
    largest = jnp.log(at(schedule.betas, t))
    smallest = at(schedule.log_posterior_variance, t)
    return jnp.clip(fraction * largest + (1 - fraction) * smallest, -30, 30)


def p_distribution(schedule: Schedule, prediction: Prediction, x_t: Images, t: Steps) -> Gaussian:
    """p(x_{t-1} | x_t): the posterior with the predicted x_0, and the learned variance if any."""
    posterior = q_posterior(schedule, prediction.x0, x_t, t)
    if prediction.variance_fraction is None:
        return posterior
    log_variance = learned_log_variance(schedule, t, prediction.variance_fraction)
    return Gaussian(posterior.mean, log_variance)


def clip_prediction(prediction: Prediction) -> Prediction:
    """The same prediction with x0 clipped to [-1, 1]; the noise stays as it was."""
    return replace(prediction, x0=jnp.clip(prediction.x0, -1, 1))


def denoiser_from_network(
    schedule: Schedule,
    network: Callable[[Images, Int[Array, "batch"], Labels | None], NetworkOutput],
) -> LabelledDenoiser:
    """The denoiser that a noise-predicting network makes on this chain.

    network: (x_t, timestep, labels) -> NetworkOutput. It is told `schedule.timesteps[t]`.
    """

    def denoiser(x_t: Images, t: Steps, labels: Labels | None) -> Prediction:
        output = network(x_t, jnp.asarray(schedule.timesteps)[t], labels)
        noise = output.noise.astype(x_t.dtype)
        return Prediction(
            x0=x0_from_noise(schedule, x_t, t, noise),
            noise=noise,
            variance_fraction=None
            if output.variance_fraction is None
            else output.variance_fraction.astype(x_t.dtype),
        )

    return denoiser
