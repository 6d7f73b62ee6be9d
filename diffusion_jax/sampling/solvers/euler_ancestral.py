"""Euler's method with fresh noise in every step, as in k-diffusion."""

from functools import partial

import jax.numpy as jnp

from diffusion_jax.diffusion.checks import check_range
from diffusion_jax.diffusion.process import per_image
from diffusion_jax.diffusion.step_coefficients import StepCoefficients
from diffusion_jax.diffusion.types import Denoiser, Images, Level, Scalar
from diffusion_jax.sampling.solver import Solver, memoryless


def euler_ancestral(*, eta: Scalar = 1.0) -> Solver:
    """Returns k-diffusion's `sample_euler_ancestral`: a step to less noise, then fresh noise.

    It equals `ddim` with this eta for a network without a learned variance. eta: amount of fresh
    noise. Raises ValueError for eta outside [0, 1].
    """
    check_range("eta", eta, 0, 1)
    return memoryless(partial(euler_ancestral_step, eta=eta))


def euler_ancestral_step(
    denoiser: Denoiser,
    now: Level,
    next: Level,
    coefficients: StepCoefficients,
    x: Images,
    noise: Images,
    *,
    eta: Scalar,
) -> Images:
    """x_next = alpha_next (x0 + down eps + up z).

    Here sigma_t = sigma / alpha of each level, and

        up = eta sigma_t_next sqrt(1 - sigma_t_next^2 / sigma_t^2),
        down = sqrt(sigma_t_next^2 - up^2).

    Euler's method down to sigma_t = down, and then fresh noise up to sigma_t_next, as k-diffusion's
    `sample_euler_ancestral` (Crowson). (alpha_next up)^2 is eta^2 beta-tilde: where no variance is
    learned, this is DDIM (arXiv:2010.02502), eq. 12 and 16, with the same eta.

    noise: z, standard normal, the shape of x. eta: in [0, 1].
    """
    prediction = denoiser(x, now)
    up = eta * jnp.sqrt(per_image(coefficients.posterior_variance))
    # sigma_next^2 - up^2, whose digits a difference in float32 would lose.
    variance_left = per_image(coefficients.variance_left)
    left = (1 - eta**2) * jnp.square(per_image(next.sigma)) + eta**2 * variance_left
    return per_image(next.alpha) * prediction.x0 + jnp.sqrt(left) * prediction.eps + up * noise
