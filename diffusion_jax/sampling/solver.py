"""What a solver is: a step from one level of a path to the next, and what it remembers."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from diffusion_jax.diffusion.sampling_schedule import Path
from diffusion_jax.diffusion.schedules import Schedule
from diffusion_jax.diffusion.types import Denoiser, Images, Waypoint

# What a solver remembers of earlier steps: any pytree, of one structure throughout.
History = Any

# (denoiser, now, next, x, fresh noise, history) -> (x at the next level, history).
Step = Callable[[Denoiser, Waypoint, Waypoint, Images, Images, History], tuple[Images, History]]


@dataclass(frozen=True)
class Conventions:
    """What belongs to a solver besides its step, where a published program has its own way.

    to_clean_image: whether paths end at the clean image, whatever the schedule's own end is.
    clip: whether the predicted x0 is clipped, unless the user says otherwise. clip_alone,
    guide_variance: see `guidance.Guidance`.
    """

    to_clean_image: bool = True
    clip: bool = True
    clip_alone: bool = False
    guide_variance: bool = False


def unchanged(path: Path, schedule: Schedule) -> Path:
    """The path as it is: `prepare` of a solver that needs nothing else."""
    return path


@dataclass(frozen=True)
class Solver:
    """A pair of functions, as an optax optimizer is.

    init: x at the start of the path -> history. step: see `Step`. Fresh noise is standard normal,
    in the shape of x, and new in every step; a deterministic solver ignores it. The first call of
    the denoiser in a step is made outside `jax.lax.cond`, so that it can be watched.

    prepare: (path, schedule) -> the path with what the solver's steps need besides, computed once,
    on the host, in float64: coefficients, or levels between those of the path, which only the
    schedule knows. `sample` is given the result.
    waypoint: what the waypoints of a prepared path are, `Waypoint` or a subclass with more fields.
    """

    init: Callable[[Images], History]
    step: Step
    conventions: Conventions = Conventions()
    prepare: Callable[[Path, Schedule], Path] = unchanged
    waypoint: type[Waypoint] = Waypoint


def memoryless(
    step: Callable[[Denoiser, Waypoint, Waypoint, Images, Images], Images],
    conventions: Conventions = Conventions(),
    prepare: Callable[[Path, Schedule], Path] = unchanged,
    waypoint: type[Waypoint] = Waypoint,
) -> Solver:
    """The solver of a step that remembers nothing."""
    return Solver(
        init=lambda x: (),
        step=lambda denoiser, now, next, x, fresh_noise, history: (
            step(denoiser, now, next, x, fresh_noise),
            history,
        ),
        conventions=conventions,
        prepare=prepare,
        waypoint=waypoint,
    )
