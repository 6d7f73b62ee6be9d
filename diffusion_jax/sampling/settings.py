"""Settings of sampling: solver, levels and guidance."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from diffusion_jax.diffusion.guidance import Guidance
from diffusion_jax.diffusion.sampling_schedule import SamplingSchedule
from diffusion_jax.sampling.solver import Solver


@dataclass(frozen=True)
class SamplingSettings:
    """Sampling settings: solver, levels and guidance.

    Args:
        solver: one of `SOLVERS`: options -> `Solver`.
        options: of the solver, by name.
        sampling_schedule: the levels to visit, in float64.
        guidance: a scale of 0 is no guidance.
    """

    solver: Callable[..., Solver]
    options: Mapping[str, Any]
    sampling_schedule: SamplingSchedule
    guidance: Guidance
