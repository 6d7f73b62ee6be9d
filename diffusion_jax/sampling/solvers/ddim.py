"""DDIM, from deterministic (eta = 0) to ancestral sampling (eta = 1)."""

from functools import partial

import jax.numpy as jnp

from diffusion_jax.diffusion.checks import check_range
from diffusion_jax.diffusion.process import learned_log_variance, per_image
from diffusion_jax.diffusion.step_coefficients import StepCoefficients
from diffusion_jax.diffusion.types import Denoiser, Images, Level, Scalar
from diffusion_jax.sampling.solver import Solver, memoryless


def ddim(*, eta: Scalar = 0.0) -> Solver:
    """Returns DDIM; eta = 1 is DDPM's ancestral sampler. Raises ValueError unless 0 <= eta <= 1."""
    check_range("eta", eta, 0, 1)
    return memoryless(partial(ddim_step, eta=eta))


def ddim_step(
    denoiser: Denoiser,
    now: Level,
    next: Level,
    coefficients: StepCoefficients,
    x: Images,
    noise: Images,
    *,
    eta: Scalar,
) -> Images:
    """x_next = alpha_next x0 + sqrt(sigma_next^2 - eta^2 beta-tilde) eps + std z.

    DDIM (arXiv:2010.02502), eq. 12 and 16. std = eta sqrt(beta-tilde), or eta times the learned
    standard deviation where the model has learned one (Improved DDPM, arXiv:2102.09672). A step to
    the clean image adds no noise.

    noise: z, standard normal, the shape of x. eta: in [0, 1].
    """
    prediction = denoiser(x, now)
    variance = per_image(coefficients.posterior_variance)
    std = jnp.sqrt(variance)
    log_variance = learned_log_variance(coefficients, prediction)
    if log_variance is not None:
        std = jnp.where(variance > 0, jnp.exp(0.5 * log_variance), 0.0)
    # sigma_next^2 - eta^2 beta-tilde, whose digits a difference in float32 would lose.
    variance_left = per_image(coefficients.variance_left)
    left = (1 - eta**2) * jnp.square(per_image(next.sigma)) + eta**2 * variance_left
    return (
        per_image(next.alpha) * prediction.x0 + jnp.sqrt(left) * prediction.eps + eta * std * noise
    )
