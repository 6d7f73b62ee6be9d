"""Heun's method: second order, two evaluations of the denoiser per step.

Without churn it is EDM's algorithm 1, and with churn its algorithm 2 (arXiv:2206.00364), at any
levels. Options: see `churn.check_churn`.
"""

import jax
import jax.numpy as jnp

from diffusion_jax.diffusion.process import per_image
from diffusion_jax.diffusion.types import Denoiser, Images, Level
from diffusion_jax.sampling.solvers.churn import churned


def heun_step(denoiser: Denoiser, now: Level, next: Level, x: Images) -> Images:
    """x_next = x + (d + d') / 2, with d = (alpha_next - alpha) x0 + (sigma_next - sigma) eps.

    d is the change of x along the chord between the two levels, and d' the same with the prediction
    at x + d. With alpha = 1 throughout, that is EDM's algorithm 1. N steps to a clean image take
    2N - 1 evaluations: the last one stays at x + d, where no noise is left.
    """
    prediction = denoiser(x, now)
    alpha, sigma = per_image(next.alpha), per_image(next.sigma)
    euler = alpha * prediction.x0 + sigma * prediction.eps

    def corrected() -> Images:
        again = denoiser(euler, next)
        d_alpha, d_sigma = alpha - per_image(now.alpha), sigma - per_image(now.sigma)
        return (euler + x + d_alpha * again.x0 + d_sigma * again.eps) / 2

    return jax.lax.cond(jnp.asarray(next.sigma) > 0, corrected, lambda: euler)


heun = churned(heun_step)
