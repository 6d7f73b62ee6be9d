"""Spacings: where the levels of a path lie."""

from collections.abc import Callable
from typing import Any

import numpy as np

from diffusion_jax.diffusion.discrete import (
    DiscreteSchedule,
    respace,
    steps_by_count,
    steps_by_stride,
)
from diffusion_jax.diffusion.paths import Path, karras_sigmas, to_clean_image
from diffusion_jax.diffusion.schedules import Schedule


def ends(schedule: Schedule, steps: int) -> Path:
    """Evenly in the schedule's own time, from its noisy end to the clean image."""
    return schedule.path(steps)


def centred(schedule: Schedule, steps: int) -> Path:
    """At the middles of `steps` equal stretches of a chain (nice-diffusion)."""
    chain = _discrete(schedule, "spacing=centred")
    return respace(chain, steps_by_count(chain.num_steps, steps, "centred")).path()


def karras(
    schedule: Schedule,
    steps: int,
    *,
    rho: float = 7.0,
    sigma_min: float = 0.0,
    sigma_max: float = 0.0,
) -> Path:
    """Evenly in (noise / signal)^(1/rho), then the clean image. EDM (arXiv:2206.00364), eq. 5.

    sigma_min, sigma_max: the ends of noise / signal; 0 is the schedule's own, or EDM's 0.002 and 80
    where the schedule goes further. The levels of a chain lie between its steps, see
    `DiscreteSchedule.at_sigma`.
    """
    smallest, largest = schedule.sigma_range
    smallest, largest = sigma_min or max(smallest, 0.002), sigma_max or min(largest, 80.0)
    if not 0 < smallest < largest or not rho > 0:
        raise ValueError(
            f"sampling.karras: sigma_min={smallest} must be less than sigma_max={largest}, and "
            f"rho={rho} positive"
        )
    return to_clean_image(schedule.at_sigma(karras_sigmas(steps, smallest, largest, rho), np))


# What `config.sampling.spacing` can be. Options are keyword arguments, and a section of the config.
SPACINGS: dict[str, Callable[..., Path]] = {"ends": ends, "centred": centred, "karras": karras}


def make_path(
    schedule: Schedule,
    *,
    steps: int,
    stride: int = 0,
    spacing: str = "ends",
    to_clean_image: bool = True,
    **options: Any,
) -> Path:
    """The path of `steps` steps with this spacing, one of `SPACINGS`.

    stride: if not 0, every stride-th step of a chain instead. to_clean_image: end at the clean
    image even if the chain's own end is noisy, as the original's is. options: the spacing's own.
    Raises ValueError for another spacing, for more steps than a chain has, and for a stride or a
    spacing of chains if the schedule is continuous.
    """
    if to_clean_image and isinstance(schedule, DiscreteSchedule):
        schedule = schedule.ending_clean()
    if stride:
        chain = _discrete(schedule, f"stride={stride}")
        return respace(chain, steps_by_stride(chain.num_steps, stride)).path()
    if spacing not in SPACINGS:
        raise ValueError(f"Unknown spacing {spacing!r}; known spacings: {', '.join(SPACINGS)}")
    return SPACINGS[spacing](schedule, steps, **options)


def _discrete(schedule: Schedule, what: str) -> DiscreteSchedule:
    if not isinstance(schedule, DiscreteSchedule):
        raise ValueError(f"{what} picks steps of a chain, and the schedule is continuous")
    return schedule
