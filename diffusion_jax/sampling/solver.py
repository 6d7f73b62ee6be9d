"""The interface of a solver: coefficients, a step from one level to the next, and a state."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jaxtyping import PyTree

from diffusion_jax.diffusion.sampling_schedule import SamplingSchedule
from diffusion_jax.diffusion.schedules import Schedule
from diffusion_jax.diffusion.step_coefficients import StepCoefficients
from diffusion_jax.diffusion.types import Denoiser, Images, Level

# Predictions of earlier steps, say: any pytree, of one structure throughout.
State = Any

# What a solver needs of a step besides its two levels: a pytree with one row for each step.
Coefficients = PyTree

# (denoiser, now, next, coefficients, x, noise, state) -> (x at the next level, state).
Step = Callable[[Denoiser, Level, Level, Coefficients, Images, Images, State], tuple[Images, State]]


@dataclass(frozen=True)
class Conventions:
    """Settings that belong to a solver, where a published program has its own.

    to_clean_image: True if sampling ends at the clean image, whatever the schedule's own end is.
    clip: True if the predicted x0 is clipped by default. shift_mean, clip_x0_only, guide_variance:
    see `guidance.Guidance`.
    """

    to_clean_image: bool = True
    clip: bool = True
    shift_mean: bool = False
    clip_x0_only: bool = False
    guide_variance: bool = False


def gaussian_steps(sampling_schedule: SamplingSchedule, schedule: Schedule) -> StepCoefficients:
    """The default `prepare`: returns the sampling schedule's own StepCoefficients."""
    return sampling_schedule.steps


@dataclass(frozen=True)
class Solver:
    """A pair of functions, as an optax optimizer is, with the coefficients of its steps.

    init: x at the first level -> state.
    step: see `Step`. It gets one row of the coefficients. noise is standard normal, in the shape of
        x, and new in every step; a deterministic solver ignores it. The first call of the denoiser
        is made outside `jax.lax.cond`, so that it can be watched.
    prepare: (sampling schedule, schedule) -> coefficients, a pytree of rows (num_steps, ...).
        Called on the host, in float64, before each run of the loop. `schedule`
        gives levels between those of the sampling schedule.
    """

    init: Callable[[Images], State]
    step: Step
    conventions: Conventions = Conventions()
    prepare: Callable[[SamplingSchedule, Schedule], Coefficients] = gaussian_steps


def memoryless(
    step: Callable[[Denoiser, Level, Level, Coefficients, Images, Images], Images],
    conventions: Conventions = Conventions(),
    prepare: Callable[[SamplingSchedule, Schedule], Coefficients] = gaussian_steps,
) -> Solver:
    """Returns the solver of a step without a state."""
    return Solver(
        init=lambda x: (),
        step=lambda denoiser, now, next, coefficients, x, noise, state: (
            step(denoiser, now, next, coefficients, x, noise),
            state,
        ),
        conventions=conventions,
        prepare=prepare,
    )
