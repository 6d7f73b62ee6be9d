"""The interface of a solver: coefficients, a step from one level to the next, and a state."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jaxtyping import PyTree

from diffusion_jax.diffusion.sampling_schedule import SamplingSchedule
from diffusion_jax.diffusion.schedules import Schedule
from diffusion_jax.diffusion.step_coefficients import StepCoefficients
from diffusion_jax.diffusion.types import Denoiser, Images, Level

# Any pytree of a fixed structure, such as the predictions of earlier steps.
State = Any

# Coefficients of the steps, besides their levels: a pytree of arrays (num_steps, ...).
Coefficients = PyTree

# (denoiser, now, next, coefficients, x, noise, state) -> (x at the next level, state).
Step = Callable[[Denoiser, Level, Level, Coefficients, Images, Images, State], tuple[Images, State]]


@dataclass(frozen=True)
class Conventions:
    """Conventions of sampling that differ between published programs, fixed by the solver.

    to_clean_image: True ends sampling at the clean image even if the schedule ends at noise.
    clip: default of `config.sampling.clip`. shift_mean, clip_x0_only, guide_variance:
    see `guidance.Guidance`.
    """

    to_clean_image: bool = True
    clip: bool = True
    shift_mean: bool = False
    clip_x0_only: bool = False
    guide_variance: bool = False


def gaussian_steps(sampling_schedule: SamplingSchedule, schedule: Schedule) -> StepCoefficients:
    """Returns `sampling_schedule.steps`, coefficients of Gaussian steps; the default `prepare`."""
    return sampling_schedule.steps


@dataclass(frozen=True)
class Solver:
    """Two functions `init` and `step`, as in optax, and `prepare`, which computes coefficients.

    Args:
        init: x at the first level -> state.
        step: see `Step`. It gets one row of the coefficients. noise is standard normal, has the
            shape of x, and is new in every step; deterministic solvers ignore it. The first call of
            the denoiser must be outside `jax.lax.cond`, since the loop records its x0.
        prepare: (sampling schedule, schedule) -> coefficients, arrays (num_steps, ...) in float64.
            Called on the host. `schedule.at_sigma` gives levels between the levels of the sampling
            schedule.
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
    """Returns the solver of a step function without a state."""
    return Solver(
        init=lambda x: (),
        step=lambda denoiser, now, next, coefficients, x, noise, state: (
            step(denoiser, now, next, coefficients, x, noise),
            state,
        ),
        conventions=conventions,
        prepare=prepare,
    )
