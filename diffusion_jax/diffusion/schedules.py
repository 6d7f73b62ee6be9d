"""Noise schedules of training, by name, and their interface."""

import inspect
from types import ModuleType
from typing import Any, Protocol, runtime_checkable

import jax.numpy as jnp
import numpy as np

from diffusion_jax.diffusion import continuous_schedules, discrete_schedules, original
from diffusion_jax.diffusion.checks import check_range
from diffusion_jax.diffusion.sampling_schedule import Numbers, SamplingSchedule
from diffusion_jax.diffusion.step_coefficients import StepCoefficients
from diffusion_jax.diffusion.types import Keys, Leaf, Level


@runtime_checkable
class Schedule(Protocol):
    """Interface of a noise schedule, for training, spacings and solvers.

    A position is the schedule's own coordinate of a level: a timestep t, a time u, or sigma.
    `continuous_schedules.ContinuousSchedule` is the base class of continuous schedules.
    """

    @property
    def num_steps(self) -> int | None:
        """The length of the chain; None if the schedule is continuous."""
        ...

    @property
    def time_range(self) -> tuple[float, float] | None:
        """The smallest and the largest time; None if positions are not times."""
        ...

    @property
    def sigma_range(self) -> tuple[float, float]:
        """The smallest and the largest sigma / alpha."""
        ...

    def draw(self, keys: Keys) -> Leaf:
        """Draws a position for each training example, (batch,)."""
        ...

    def level(self, position: Leaf, xp: ModuleType = jnp) -> Level:
        """Returns the levels at these positions, in float64 (xp = numpy) or under jit."""
        ...

    def steps_from(self, position: Leaf) -> StepCoefficients | None:
        """Returns the coefficients of the steps t to t - 1; None for a continuous schedule."""
        ...

    def at_sigma(self, sigma: Leaf, xp: ModuleType = np) -> Level:
        """Returns the levels of these sigma / alpha, in float64 (xp = numpy) or under jit."""
        ...

    def visit(self, positions: Numbers) -> SamplingSchedule:
        """Returns the sampling schedule of these positions, which increase."""
        ...

    def sampling_schedule(self, steps: int) -> SamplingSchedule:
        """Returns the sampling schedule of `steps` steps, evenly spaced in time."""
        ...

    def with_clean_end(self) -> "Schedule":
        """Returns the schedule with the clean image as its least noisy level."""
        ...


def linear(
    num_steps: int = 1000,
    first_timestep: int = 1,
    rescale_timesteps: bool = False,
    *,
    rescale: bool = False,
) -> discrete_schedules.DiscreteSchedule:
    """Returns DDPM's linear schedule (arXiv:2006.11239, section 4): beta_t from 1e-4 to 0.02.

    rescale: beta times 1000 / num_steps, so that a chain of any length ends with the same noise
    (Improved DDPM's program).
    """
    scale = 1000 / num_steps if rescale else 1.0
    if 0.02 * scale >= 1:
        raise ValueError(f"rescale=True needs more than 20 steps, not num_steps={num_steps}")
    schedule = discrete_schedules.from_betas(scale * discrete_schedules.linear_betas(num_steps))
    return discrete_schedules.with_timesteps(schedule, first_timestep, rescale_timesteps)


def cosine(
    num_steps: int = 1000,
    original_quirks: bool = False,
    first_timestep: int = 1,
    rescale_timesteps: bool = False,
) -> discrete_schedules.DiscreteSchedule:
    """Returns Improved DDPM's cosine schedule (arXiv:2102.09672, eq. 17), with alpha-bar_0 = 1.

    original_quirks: the clipped cosine of gmongaras/Diffusion_models_from_scratch instead.
    """
    if original_quirks:
        schedule = original.original_cosine(num_steps)
    else:
        schedule = discrete_schedules.from_betas(discrete_schedules.cosine_betas(num_steps))
    return discrete_schedules.with_timesteps(schedule, first_timestep, rescale_timesteps)


# The choices of `config.schedule.name`. Options are keyword arguments, and a config section.
SCHEDULES = {
    "linear": linear,
    "cosine": cosine,
    "continuous_cosine": continuous_schedules.ContinuousCosine,
    "flow": continuous_schedules.Flow,
    "edm": continuous_schedules.EDM,
}


def make_schedule(
    name: str,
    num_steps: int = 1000,
    original_quirks: bool = False,
    first_timestep: int = 1,
    rescale_timesteps: bool = False,
    **options: Any,
) -> Schedule:
    """Returns the training schedule of this name, one of `SCHEDULES`.

    Args:
        num_steps, original_quirks: of discrete schedules, see `cosine`.
        first_timestep, rescale_timesteps: the timesteps of discrete schedules, see
            `discrete_schedules.with_timesteps`.
        options: the schedule's own.

    Raises:
        ValueError: another name, or an option out of range.
    """
    if name not in SCHEDULES:
        raise ValueError(f"Unknown schedule {name!r}; known schedules: {', '.join(SCHEDULES)}")
    check_range("num_steps", num_steps, 2)
    shared = {
        "num_steps": num_steps,
        "original_quirks": original_quirks,
        "first_timestep": first_timestep,
        "rescale_timesteps": rescale_timesteps,
    }
    taken = inspect.signature(SCHEDULES[name]).parameters
    return SCHEDULES[name](**{k: v for k, v in shared.items() if k in taken}, **options)
