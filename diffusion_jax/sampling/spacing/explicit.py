"""Explicit lists of sigmas or timesteps."""

import numpy as np

from diffusion_jax.diffusion.sampling_schedule import Numbers, SamplingSchedule, to_clean_image
from diffusion_jax.diffusion.schedules import Schedule


def explicit_levels(
    schedule: Schedule,
    steps: int,
    *,
    sigmas: tuple[float | int, ...] = (),
    timesteps: tuple[float | int, ...] = (),
    interpolate: bool = False,
) -> SamplingSchedule:
    """Visits the levels of a list, then the clean image.

    Args:
        sigmas: values of sigma / alpha, decreasing; a 0 at the end is the clean image.
        timesteps: of a chain, decreasing, counted from 0 as published lists are, so that 999 is
            step 1000. One of the two has to be given.
        interpolate: take `steps` steps, with log(sigma / alpha) interpolated along the list, as
            Align Your Steps (arXiv:2404.14507) recommends. Otherwise every level of the list is
            visited, and `steps` is not used.
    """
    if bool(sigmas) == bool(timesteps):
        raise ValueError(
            "spacing=list needs either sigmas, such as 14.6,6.3,0.4, or timesteps, such as 999,500"
        )
    if sigmas:
        found = _decreasing("sigmas", sigmas)
        found = found[:-1] if len(found) > 1 and found[-1] == 0 else found
        if not np.isfinite(found[0]) or not found[-1] > 0:
            raise ValueError(f"sigmas={sigmas} must be finite and positive; only the last can be 0")
    else:
        if schedule.num_steps is None:
            raise ValueError(
                f"timesteps={timesteps} needs a discrete schedule; this one is continuous; give "
                "sigmas"
            )
        if not all(float(timestep).is_integer() for timestep in timesteps):
            raise ValueError(f"timesteps={timesteps} must be whole numbers")
        positions = 1 + _decreasing("timesteps", timesteps).astype(int)
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


def _decreasing(name: str, given: tuple[float | int, ...]) -> Numbers:
    """Returns the numbers as an array. Raises ValueError unless they decrease."""
    numbers = np.array(given, np.float64)
    if not np.all(np.diff(numbers) < 0):
        raise ValueError(f"{name}={given} must decrease")
    return numbers
