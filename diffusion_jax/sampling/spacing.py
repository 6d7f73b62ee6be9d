"""Spacings: where the levels of a path lie."""

from collections.abc import Callable
from typing import Any

import numpy as np

from diffusion_jax.diffusion.checks import check_positive
from diffusion_jax.diffusion.discrete_schedules import (
    DiscreteSchedule,
    Positions,
    respace,
    steps_by_count,
    steps_by_stride,
)
from diffusion_jax.diffusion.sampling_schedule import Numbers, Path, karras_sigmas, to_clean_image
from diffusion_jax.diffusion.schedules import Schedule, Timed
from diffusion_jax.sampling import timestep_spacing
from diffusion_jax.sampling.explicit_spacing import listed


def ends(schedule: Schedule, steps: int) -> Path:
    """Evenly in the schedule's own time, from its noisy end to the clean image."""
    return schedule.path(steps)


def centered(schedule: Schedule, steps: int) -> Path:
    """At the middles of `steps` equal stretches of a chain (nice-diffusion)."""
    chain = _discrete(schedule, "spacing=centered")
    return respace(chain, steps_by_count(chain.num_steps, steps, "centered")).path()


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
    check_positive(rho=rho)
    smallest, largest = _sigma_ends(schedule, sigma_min, sigma_max)
    return to_clean_image(schedule.at_sigma(karras_sigmas(steps, smallest, largest, rho), np))


def leading(schedule: Schedule, steps: int, *, steps_offset: int = 0) -> Path:
    """From the least noisy level upwards in equal strides, short of the noisy end.

    In a chain, as `chain_steps.leading`. In the time u of a continuous schedule, at
    u_min + k (u_max - u_min) / steps for k = 0 .. steps - 1.
    steps_offset: moves all steps of a chain up; 1 as Stable Diffusion has it.
    """
    if isinstance(schedule, DiscreteSchedule):
        return _visit(schedule, timestep_spacing.leading(schedule.num_steps, steps, steps_offset))
    if steps_offset:
        raise ValueError(f"steps_offset={steps_offset} is of chains; the schedule is continuous")
    first, last = _times(schedule, "leading")
    return _at_times(schedule, first + (last - first) * np.arange(steps)[::-1] / steps)


def trailing(schedule: Schedule, steps: int) -> Path:
    """From the noisy end downwards in equal strides to the clean image.

    In a chain, as `chain_steps.trailing`. In the time u of a continuous schedule, at
    k u_max / steps for k = steps .. 1.
    """
    if isinstance(schedule, DiscreteSchedule):
        return _visit(schedule, timestep_spacing.trailing(schedule.num_steps, steps))
    _, last = _times(schedule, "trailing")
    return _at_times(schedule, last * np.arange(steps, 0, -1) / steps)


def linspace(schedule: Schedule, steps: int) -> Path:
    """Evenly from the noisiest to the least noisy level, both included, then the clean image.

    In a chain, as `chain_steps.linspace`; otherwise in the schedule's time u.
    """
    if isinstance(schedule, DiscreteSchedule):
        return _visit(schedule, timestep_spacing.linspace(schedule.num_steps, steps))
    first, last = _times(schedule, "linspace")
    return _at_times(schedule, np.linspace(last, first, steps))


def quadratic(schedule: Schedule, steps: int, *, reach: float = 1.0) -> Path:
    """Evenly in the square root of time, so that most steps are where there is little noise.

    In a chain, as `chain_steps.quadratic`; otherwise in the schedule's time u, from reach u_max to
    u_min. Then the clean image. reach: where to begin, as a part of the whole time; the program of
    DDIM (arXiv:2010.02502) has 0.8, which suits schedules with hardly any signal there.
    """
    if isinstance(schedule, DiscreteSchedule):
        return _visit(schedule, timestep_spacing.quadratic(schedule.num_steps, steps, reach))
    timestep_spacing.check_reach(reach)
    first, last = _times(schedule, "quadratic")
    return _at_times(schedule, first + (reach * last - first) * np.linspace(1, 0, steps) ** 2)


def log_snr(
    schedule: Schedule, steps: int, *, sigma_min: float = 0.0, sigma_max: float = 0.0
) -> Path:
    """Evenly in the logarithm of signal / noise, then the clean image.

    DPM-Solver (arXiv:2206.00927). sigma_min, sigma_max: as in `karras`.
    """
    smallest, largest = _sigma_ends(schedule, sigma_min, sigma_max)
    return to_clean_image(schedule.at_sigma(np.geomspace(largest, smallest, steps), np))


def sections(schedule: Schedule, steps: int, *, sections: str = "") -> Path:
    """As many steps in each stretch of a chain as a text says, see `chain_steps.sections`.

    steps is not used: the text has its own number.
    """
    chain = _discrete(schedule, "spacing=sections")
    return _visit(chain, timestep_spacing.sections(chain.num_steps, sections))


# What `config.sampling.spacing` can be. Options are keyword arguments, and a section of the config.
SPACINGS: dict[str, Callable[..., Path]] = {
    "ends": ends,
    "centered": centered,
    "karras": karras,
    "leading": leading,
    "trailing": trailing,
    "linspace": linspace,
    "quadratic": quadratic,
    "log_snr": log_snr,
    "sections": sections,
    "list": listed,
}


def has_own_number(spacing: str, *, interpolate: bool = False, **_: Any) -> bool:
    """Whether a spacing with these options takes its own number of steps, whatever is asked for."""
    return spacing == "sections" or (spacing == "list" and not interpolate)


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


def _visit(chain: DiscreteSchedule, positions: Positions) -> Path:
    return respace(chain, positions).path()


def _times(schedule: Schedule, spacing: str) -> tuple[float, float]:
    if not isinstance(schedule, Timed):
        raise ValueError(
            f"spacing={spacing} is of the schedule's own time, and this one has none; choose ends, "
            "karras or log_snr"
        )
    return schedule.time_range


def _at_times(schedule: Timed, times: Numbers) -> Path:
    return to_clean_image(schedule.level(times, np))


def _sigma_ends(schedule: Schedule, sigma_min: float, sigma_max: float) -> tuple[float, float]:
    smallest, largest = schedule.sigma_range
    smallest, largest = sigma_min or max(smallest, 0.002), sigma_max or min(largest, 80.0)
    if not 0 < smallest < largest < np.inf:
        raise ValueError(
            f"sigma_min={smallest} must be less than sigma_max={largest}, and both positive"
        )
    return smallest, largest
