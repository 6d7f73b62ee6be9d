"""Spacings in a schedule's own position: steps t of a chain, or the time u of a continuous one."""

import numpy as np

from diffusion_jax.diffusion.discrete_schedules import steps_by_count
from diffusion_jax.diffusion.sampling_schedule import SamplingSchedule
from diffusion_jax.diffusion.schedules import Schedule
from diffusion_jax.sampling.spacing import timesteps


def ends(schedule: Schedule, steps: int) -> SamplingSchedule:
    """Returns equal steps in the schedule's own time, from its noisy end to the clean image."""
    return schedule.sampling_schedule(steps)


def centered(schedule: Schedule, steps: int) -> SamplingSchedule:
    """Visits the middles of `steps` equal stretches of a chain (nice-diffusion)."""
    length = chain_length(schedule, "spacing=centered")
    return schedule.visit(steps_by_count(length, steps, "centered"))


def leading(schedule: Schedule, steps: int, *, steps_offset: int = 0) -> SamplingSchedule:
    """Visits equal strides from the least noisy level upwards, short of the noisy end.

    In a chain, as `timesteps.leading`. In the time u of a continuous schedule, at
    u_min + k (u_max - u_min) / steps for k = 0 .. steps - 1.
    steps_offset: moves all steps of a chain up; 1 in Stable Diffusion.
    """
    if schedule.num_steps is not None:
        return schedule.visit(timesteps.leading(schedule.num_steps, steps, steps_offset))
    if steps_offset:
        raise ValueError(
            f"steps_offset={steps_offset} needs a discrete schedule; this one is continuous"
        )
    first, last = time_range(schedule, "leading")
    return schedule.visit(first + (last - first) * np.arange(steps) / steps)


def trailing(schedule: Schedule, steps: int) -> SamplingSchedule:
    """Visits equal strides from the noisy end downwards to the clean image.

    In a chain, as `timesteps.trailing`. In the time u of a continuous schedule, at k u_max / steps
    for k = steps .. 1.
    """
    if schedule.num_steps is not None:
        return schedule.visit(timesteps.trailing(schedule.num_steps, steps))
    _, last = time_range(schedule, "trailing")
    return schedule.visit(last * np.arange(1, steps + 1) / steps)


def linspace(schedule: Schedule, steps: int) -> SamplingSchedule:
    """Visits equal strides between the noisiest and the least noisy level, then the clean image.

    In a chain, as `timesteps.linspace`; otherwise in the schedule's time u.
    """
    if schedule.num_steps is not None:
        return schedule.visit(timesteps.linspace(schedule.num_steps, steps))
    first, last = time_range(schedule, "linspace")
    return schedule.visit(np.linspace(last, first, steps)[::-1])


def quadratic(schedule: Schedule, steps: int, *, reach: float = 1.0) -> SamplingSchedule:
    """Visits equal strides in the square root of time: most steps are where there is little noise.

    In a chain, as `timesteps.quadratic`; otherwise in the schedule's time u, from reach u_max to
    u_min. Then the clean image. reach: the start, as a part of the whole time; the program of DDIM
    (arXiv:2010.02502) has 0.8, which suits schedules with hardly any signal there.
    """
    if schedule.num_steps is not None:
        return schedule.visit(timesteps.quadratic(schedule.num_steps, steps, reach))
    timesteps.check_reach(reach)
    first, last = time_range(schedule, "quadratic")
    places = np.linspace(1, 0, steps)[::-1]
    return schedule.visit(first + (reach * last - first) * places**2)


def sections(schedule: Schedule, steps: int, *, sections: tuple[int, ...] = ()) -> SamplingSchedule:
    """Visits a given number of steps in each stretch of a chain, see `timesteps.sections`.

    steps is not used: the sections have their own numbers.
    """
    return schedule.visit(timesteps.sections(chain_length(schedule, "spacing=sections"), sections))


def chain_length(schedule: Schedule, option: str) -> int:
    """Returns the number of steps of a chain. Raises ValueError for a continuous schedule."""
    if schedule.num_steps is None:
        raise ValueError(f"{option} needs a discrete schedule; this one is continuous")
    return schedule.num_steps


def time_range(schedule: Schedule, spacing: str) -> tuple[float, float]:
    """Returns the smallest and the largest time. Raises ValueError for a schedule without one."""
    if schedule.time_range is None:
        raise ValueError(
            f"spacing={spacing} needs a schedule with a time; choose ends, karras or log_snr"
        )
    return schedule.time_range
