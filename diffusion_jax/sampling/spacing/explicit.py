"""The spacing of lists: levels that someone else has found."""

import numpy as np

from diffusion_jax.diffusion.sampling_schedule import SamplingSchedule, to_clean_image
from diffusion_jax.diffusion.schedules import Schedule


def listed(
    schedule: Schedule,
    steps: int,
    *,
    sigmas: str = "",
    timesteps: str = "",
    interpolate: bool = False,
) -> SamplingSchedule:
    """At the levels of a list, then the clean image.

    sigmas: noise / signal, "14.6,6.3,..."; a 0 at the end is the clean image. timesteps: of a
    chain, "999,850,...", counted from 0 as published lists are, so that 999 is step 1000. One of
    the two has to be given, decreasing.
    interpolate: take `steps` steps, with log(noise / signal) interpolated along the list, as Align
    Your Steps (arXiv:2404.14507) recommends. Otherwise the list is visited as it is, whatever
    `steps` says.
    """
    if bool(sigmas) == bool(timesteps):
        raise ValueError(
            "spacing=list needs either sigmas, such as 14.6,6.3,0.4, or timesteps, such as 999,500"
        )
    if sigmas:
        found = _decreasing("sigmas", sigmas, float)
        found = found[:-1] if len(found) > 1 and found[-1] == 0 else found
        if not np.isfinite(found[0]) or not found[-1] > 0:
            raise ValueError(f"sigmas={sigmas} must be finite and positive; only the last can be 0")
    else:
        if schedule.num_steps is None:
            raise ValueError(
                f"timesteps={timesteps} are of a chain, and the schedule is continuous; give sigmas"
            )
        positions = 1 + _decreasing("timesteps", timesteps, int)
        if not 1 <= positions[-1] <= positions[0] <= schedule.num_steps:
            raise ValueError(
                f"timesteps={timesteps} must be in 0..{schedule.num_steps - 1}, counted from 0"
            )
        if not interpolate:
            return schedule.visit(positions[::-1])
        levels = schedule.level(positions, np)
        found = levels.sigma / levels.alpha
    if interpolate:
        if len(found) < min(steps, 2):
            raise ValueError(f"One level cannot be interpolated to steps={steps}; list more")
        place = np.linspace(0, len(found) - 1, steps)
        found = np.exp(np.interp(place, np.arange(len(found)), np.log(found)))
    return to_clean_image(schedule.at_sigma(found, np))


def _decreasing(name: str, text: str, kind: type) -> np.ndarray:
    """The numbers of a text. Raises ValueError unless there are some, and they decrease."""
    try:
        numbers = np.array([kind(part) for part in text.split(",")])
    except ValueError:
        wanted = "whole numbers" if kind is int else "numbers"
        raise ValueError(f"{name}={text} must be {wanted}, separated by commas") from None
    if not np.all(np.diff(numbers) < 0):
        raise ValueError(f"{name}={text} must decrease")
    return numbers
