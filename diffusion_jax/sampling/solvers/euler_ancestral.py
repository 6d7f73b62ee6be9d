"""Euler's method with fresh noise in every step, as in k-diffusion."""

from functools import partial

import jax.numpy as jnp

from diffusion_jax.diffusion.checks import check_range
from diffusion_jax.diffusion.process import per_image
from diffusion_jax.diffusion.types import Denoiser, Images, Level, Scalar, Waypoint
from diffusion_jax.sampling.solver import Solver, memoryless


def euler_ancestral(*, eta: Scalar = 1.0) -> Solver:
    """eta: how much of the noise is fresh. Raises ValueError for eta outside [0, 1]."""
    check_range("eta", eta, 0, 1)
    return memoryless(partial(euler_ancestral_step, eta=eta))


def euler_ancestral_step(
    denoiser: Denoiser,
    now: Level,
    next: Waypoint,
    x: Images,
    fresh_noise: Images,
    *,
    eta: Scalar,
) -> Images:
    """x_next = signal_next (x0 + sigma_down eps + sigma_up z), with sigma = noise / signal and

        sigma_up = eta sigma_next sqrt(1 - sigma_next^2 / sigma^2),
        sigma_down = sqrt(sigma_next^2 - sigma_up^2).

    Euler's method down to sigma_down, and then fresh noise up to sigma_next, as k-diffusion's
    `sample_euler_ancestral` (Crowson). (signal_next sigma_up)^2 is eta^2 beta-tilde: where no
    variance is learned, this is DDIM (arXiv:2010.02502), eq. 12 and 16, with the same eta.

    fresh_noise: z, standard normal, the shape of x. eta: in [0, 1].
    """
    prediction = denoiser(x, now)
    up = eta * jnp.sqrt(per_image(next.posterior_variance))
    # noise_next^2 - up^2, whose digits a difference in float32 would lose.
    left = (1 - eta**2) * jnp.square(per_image(next.sigma)) + eta**2 * per_image(next.variance_left)
    return (
        per_image(next.alpha) * prediction.x0 + jnp.sqrt(left) * prediction.eps + up * fresh_noise
    )
