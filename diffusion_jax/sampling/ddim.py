"""DDIM and DDPM: one family of samplers, from deterministic to ancestral."""

import jax.numpy as jnp

from diffusion_jax.diffusion.process import at, learned_log_variance, posterior_variance
from diffusion_jax.diffusion.schedules import Schedule
from diffusion_jax.diffusion.types import Denoiser, Images, Scalar, Steps


def ddim_step(
    schedule: Schedule,
    denoiser: Denoiser,
    x_t: Images,
    t: Steps,
    fresh_noise: Images,
    *,
    eta: Scalar,
) -> Images:
    """x_{t-1} = sqrt(abar_{t-1}) x_0 + sqrt(1 - abar_{t-1} - eta^2 beta-tilde_t) noise + sigma z.

    DDIM (arXiv:2010.02502), eq. 12 and 16. eta = 0 is DDIM, 1 is DDPM's ancestral sampler, and
    sigma = eta sqrt(beta-tilde_t), or eta times the learned standard deviation where the model has
    learned one (Improved DDPM, arXiv:2102.09672). The last step, t = 1, adds no noise.

    fresh_noise: z, standard normal, the shape of x_t. eta: in [0, 1].
    """
    prediction = denoiser(x_t, t)
    variance = posterior_variance(schedule, t)
    if prediction.variance_fraction is None:
        sigma = jnp.sqrt(variance)
    else:
        log_variance = learned_log_variance(schedule, t, prediction.variance_fraction)
        sigma = jnp.where(t[:, None, None, None] > 1, jnp.exp(0.5 * log_variance), 0.0)
    left = at(schedule.one_minus_alphas_bar, t - 1) - eta**2 * variance
    direction = jnp.sqrt(jnp.maximum(left, 0.0)) * prediction.noise
    return (
        jnp.sqrt(at(schedule.alphas_bar, t - 1)) * prediction.x0
        + direction
        + eta * sigma * fresh_noise
    )
