"""Spacings in sigma / alpha, at levels that may lie between the steps of a chain.

See `DiscreteSchedule.at_sigma`.
"""

import numpy as np

from diffusion_jax.diffusion.checks import check_positive
from diffusion_jax.diffusion.sampling_schedule import (
    SamplingSchedule,
    karras_sigmas,
    to_clean_image,
)
from diffusion_jax.diffusion.schedules import Schedule

EDM_RANGE = (0.002, 80.0)


def karras(
    schedule: Schedule,
    steps: int,
    *,
    rho: float = 7.0,
    sigma_min: float | None = None,
    sigma_max: float | None = None,
) -> SamplingSchedule:
    """Visits equal strides in (sigma / alpha)^(1/rho), then the clean image.

    EDM (arXiv:2206.00364), eq. 5. sigma_min, sigma_max: see `sigma_ends`.
    """
    check_positive(rho=rho)
    smallest, largest = sigma_ends(schedule, sigma_min, sigma_max)
    return to_clean_image(schedule.at_sigma(karras_sigmas(steps, smallest, largest, rho), np))


def log_snr(
    schedule: Schedule,
    steps: int,
    *,
    sigma_min: float | None = None,
    sigma_max: float | None = None,
) -> SamplingSchedule:
    """Visits equal strides in log(alpha / sigma), then the clean image.

    DPM-Solver (arXiv:2206.00927). sigma_min, sigma_max: see `sigma_ends`.
    """
    smallest, largest = sigma_ends(schedule, sigma_min, sigma_max)
    return to_clean_image(schedule.at_sigma(np.geomspace(largest, smallest, steps), np))


def sigma_ends(
    schedule: Schedule, sigma_min: float | None, sigma_max: float | None
) -> tuple[float, float]:
    """Returns the smallest and the largest sigma / alpha.

    None is the schedule's own, or EDM's 0.002 and 80 where the schedule goes further.
    Raises ValueError for an empty range.
    """
    smallest, largest = schedule.sigma_range
    smallest = max(smallest, EDM_RANGE[0]) if sigma_min is None else sigma_min
    largest = min(largest, EDM_RANGE[1]) if sigma_max is None else sigma_max
    if not 0 < smallest < largest < np.inf:
        raise ValueError(
            f"sigma_min={smallest} must be less than sigma_max={largest}, and both positive"
        )
    return smallest, largest
