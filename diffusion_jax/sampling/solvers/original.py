"""The sampler of gmongaras/Diffusion_models_from_scratch."""

from functools import partial

import jax.numpy as jnp

from diffusion_jax.diffusion.checks import check_range
from diffusion_jax.diffusion.process import learned_log_variance, per_image
from diffusion_jax.diffusion.step_coefficients import StepCoefficients
from diffusion_jax.diffusion.types import Denoiser, Images, Level, Scalar
from diffusion_jax.sampling.solver import Conventions, Solver, memoryless

# It ends at alpha-bar = 0.999, guides the variance, and does not recompute eps if it clips x0.
CONVENTIONS = Conventions(to_clean_image=False, clip=False, clip_x0_only=True, guide_variance=True)


def original(*, eta: Scalar = 0.0) -> Solver:
    """Returns the original's sampler. eta: root of its DDIM_scale; ValueError if negative."""
    check_range("eta", eta, 0)
    return memoryless(partial(original_step, eta=eta), CONVENTIONS)


def original_step(
    denoiser: Denoiser,
    now: Level,
    next: Level,
    coefficients: StepCoefficients,
    x: Images,
    noise: Images,
    *,
    eta: Scalar,
) -> Images:
    """x_next = alpha_next x0 + sqrt(sigma_next^2 - s beta-tilde) eps + std z, with s = eta^2.

    std^2 is s times the learned variance; the term under the root is kept at least 0. Unlike in
    `ddim_step`, the last step adds noise, too, and eta may exceed 1.

    noise: z, standard normal, the shape of x. eta: at least 0.
    """
    prediction = denoiser(x, now)
    scale = jnp.square(eta)
    variance = per_image(coefficients.posterior_variance)
    left = jnp.square(per_image(next.sigma)) - scale * variance
    log_variance = learned_log_variance(coefficients, prediction)
    if log_variance is not None:
        variance = jnp.exp(log_variance)
    return (
        per_image(next.alpha) * prediction.x0
        + jnp.sqrt(jnp.maximum(left, 0.0)) * prediction.eps
        + jnp.sqrt(scale * variance) * noise
    )
