"""DDPM's ancestral sampler, with the variances proposed for it."""

from functools import partial

import jax.numpy as jnp
import numpy as np

from diffusion_jax.diffusion.process import learned_log_variance, per_image, posterior_mean
from diffusion_jax.diffusion.sampling_schedule import SamplingSchedule
from diffusion_jax.diffusion.schedules import Schedule
from diffusion_jax.diffusion.step_coefficients import StepCoefficients
from diffusion_jax.diffusion.types import Denoiser, Images, Level, PerImage, Prediction
from diffusion_jax.sampling.solver import Solver, memoryless


def learned(step: StepCoefficients, prediction: Prediction) -> Images | PerImage:
    """The network's learned deviation, or else the small one. Improved DDPM, eq. 15."""
    log_variance = learned_log_variance(step, prediction)
    return small(step, prediction) if log_variance is None else jnp.exp(0.5 * log_variance)


def small(step: StepCoefficients, prediction: Prediction) -> PerImage:
    """sqrt(beta-tilde), the deviation of q(x_next | x, x0): right for data that are one image."""
    return jnp.sqrt(per_image(step.posterior_variance))


def large(step: StepCoefficients, prediction: Prediction) -> PerImage:
    """sqrt(beta), the deviation of q(x | x_next): right for data that are standard normal."""
    return jnp.sqrt(per_image(step.beta))


# The option `variance`: functions to the standard deviation of a step.
VARIANCES = {"learned": learned, "small": small, "large": large}


def ddpm(*, variance: str = "learned") -> Solver:
    """variance: one of `VARIANCES`. Raises ValueError for another."""
    if variance not in VARIANCES:
        raise ValueError(f"Unknown variance {variance!r}; known variances: {', '.join(VARIANCES)}")
    return memoryless(partial(ddpm_step, variance=variance), prepare=descending)


def ddpm_step(
    denoiser: Denoiser,
    now: Level,
    next: Level,
    coefficients: StepCoefficients,
    x: Images,
    noise: Images,
    *,
    variance: str,
) -> Images:
    """x_next = mean of q(x_next | x, x0) + std z, with the predicted x0.

    DDPM (arXiv:2006.11239), algorithm 2; std as in its section 3.2, or learned as in Improved
    DDPM (arXiv:2102.09672), section 3.1. A step to the clean image adds no noise.

    noise: z, standard normal, the shape of x.
    """
    prediction = denoiser(x, now)
    std = VARIANCES[variance](coefficients, prediction)
    std = jnp.where(per_image(next.sigma) > 0, std, 0.0)
    return posterior_mean(coefficients, prediction.x0, x) + std * noise


def descending(sampling_schedule: SamplingSchedule, schedule: Schedule) -> StepCoefficients:
    """Returns the Gaussian transitions. Raises ValueError for a step to more noise.

    Such a step has no posterior.
    """
    if np.any(np.asarray(sampling_schedule.steps.log_snr_step) < 0):
        raise ValueError("The solver ddpm cannot climb to more noise; invert with ddim")
    return sampling_schedule.steps
