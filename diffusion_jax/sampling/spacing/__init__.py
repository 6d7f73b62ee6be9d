"""Spacings: methods that choose the levels of a sampling schedule from a training schedule."""

from collections.abc import Callable
from typing import Any

from diffusion_jax.diffusion.checks import check_range
from diffusion_jax.diffusion.discrete_schedules import steps_by_stride
from diffusion_jax.diffusion.sampling_schedule import SamplingSchedule
from diffusion_jax.diffusion.schedules import Schedule
from diffusion_jax.sampling.spacing.explicit import explicit_levels
from diffusion_jax.sampling.spacing.positions import (
    centered,
    chain_length,
    ends,
    leading,
    linspace,
    quadratic,
    sections,
    trailing,
)
from diffusion_jax.sampling.spacing.sigmas import karras, log_snr

# The choices of `config.sampling.spacing`. Options are keyword arguments, and a config section.
SPACINGS: dict[str, Callable[..., SamplingSchedule]] = {
    "ends": ends,
    "centered": centered,
    "karras": karras,
    "leading": leading,
    "trailing": trailing,
    "linspace": linspace,
    "quadratic": quadratic,
    "log_snr": log_snr,
    "sections": sections,
    "list": explicit_levels,
}


def fixes_num_steps(spacing: str, *, interpolate: bool = False, **_: Any) -> bool:
    """True if the spacing with these options determines the number of steps."""
    return spacing == "sections" or (spacing == "list" and not interpolate)


def make_sampling_schedule(
    schedule: Schedule,
    *,
    steps: int,
    stride: int | None = None,
    spacing: str = "ends",
    to_clean_image: bool = True,
    **options: Any,
) -> SamplingSchedule:
    """Returns the sampling schedule of `steps` steps with this spacing, one of `SPACINGS`.

    Args:
        stride: every stride-th step of a chain instead.
        to_clean_image: end at the clean image even if the chain's own end is noisy, as the
            original's is.
        options: the spacing's own.

    Raises:
        ValueError: another spacing, steps or a stride out of range, or a stride or a spacing of
            chains with a continuous schedule.
    """
    if spacing not in SPACINGS:
        raise ValueError(f"Unknown spacing {spacing!r}; known spacings: {', '.join(SPACINGS)}")
    check_range("steps", steps, 1)
    check_range("stride", stride, 1)
    if to_clean_image:
        schedule = schedule.with_clean_end()
    if stride is not None:
        return schedule.visit(steps_by_stride(chain_length(schedule, f"stride={stride}"), stride))
    return SPACINGS[spacing](schedule, steps, **options)
