"""Euler's method: first order, one evaluation of the denoiser per step.

Without churn it is `ddim` with eta = 0. Options: see `churn.check_churn`.
"""

from diffusion_jax.diffusion.process import per_image
from diffusion_jax.diffusion.types import Denoiser, Images, Level
from diffusion_jax.sampling.solvers.churn import churned


def euler_step(denoiser: Denoiser, now: Level, next: Level, x: Images) -> Images:
    """x_next = x + (alpha_next - alpha) x0 + (sigma_next - sigma) eps, along the chord.

    Since x = alpha x0 + sigma eps, that is alpha_next x0 + sigma_next eps: DDIM with eta = 0. With
    alpha = 1 throughout, it is the Euler method of EDM (arXiv:2206.00364), section 3,
    x + (sigma_next - sigma) eps. At other levels it is the same in terms of x / alpha, which
    changes by eps times the change of sigma / alpha.
    """
    prediction = denoiser(x, now)
    return per_image(next.alpha) * prediction.x0 + per_image(next.sigma) * prediction.eps


euler = churned(euler_step)
