"""DDPM's ancestral sampler, with the variances that were proposed for it."""

from functools import partial

import jax.numpy as jnp
import numpy as np

from diffusion_jax.diffusion.process import learned_log_variance, per_image, posterior_mean
from diffusion_jax.diffusion.sampling_schedule import Path
from diffusion_jax.diffusion.schedules import Schedule
from diffusion_jax.diffusion.types import Denoiser, Images, Level, PerImage, Prediction, Waypoint
from diffusion_jax.sampling.solver import Solver, memoryless


def learned(next: Waypoint, prediction: Prediction) -> Images | PerImage:
    """What the network has learned, or else the small one. Improved DDPM, eq. 15."""
    log_variance = learned_log_variance(next, prediction)
    return small(next, prediction) if log_variance is None else jnp.exp(0.5 * log_variance)


def small(next: Waypoint, prediction: Prediction) -> PerImage:
    """sqrt(beta-tilde), the deviation of q(x_next | x, x0): right for data that are one image."""
    return jnp.sqrt(per_image(next.posterior_variance))


def large(next: Waypoint, prediction: Prediction) -> PerImage:
    """sqrt(beta), that of q(x | x_next): right for data that are standard normal."""
    return jnp.sqrt(per_image(next.beta))


# What the option `variance` can be: functions to the standard deviation of a step.
VARIANCES = {"learned": learned, "small": small, "large": large}


def ddpm(*, variance: str = "learned") -> Solver:
    """variance: one of `VARIANCES`. Raises ValueError for another."""
    if variance not in VARIANCES:
        raise ValueError(f"Unknown variance {variance!r}; known variances: {', '.join(VARIANCES)}")
    return memoryless(partial(ddpm_step, variance=variance), prepare=descending)


def ddpm_step(
    denoiser: Denoiser, now: Level, next: Waypoint, x: Images, fresh_noise: Images, *, variance: str
) -> Images:
    """x_next = mean of q(x_next | x, x0) + sigma z, with the predicted x0.

    DDPM (arXiv:2006.11239), algorithm 2; sigma as in its section 3.2, or learned as in Improved
    DDPM (arXiv:2102.09672), section 3.1. A step to the clean image adds no noise.

    fresh_noise: z, standard normal, the shape of x.
    """
    prediction = denoiser(x, now)
    sigma = jnp.where(per_image(next.sigma) > 0, VARIANCES[variance](next, prediction), 0.0)
    return posterior_mean(next, prediction.x0, x) + sigma * fresh_noise


def descending(path: Path, schedule: Schedule) -> Path:
    """The path as it is. Raises ValueError if it climbs: to more noise there is no posterior."""
    if np.any(np.asarray(path.waypoints.log_snr_step) < 0):
        raise ValueError("The solver ddpm cannot climb to more noise; invert with ddim")
    return path
