"""Training schedules: which levels of noise a network learns."""

import inspect
from types import ModuleType
from typing import Any, Protocol, runtime_checkable

from diffusion_jax.diffusion import continuous_schedules, discrete_schedules, original
from diffusion_jax.diffusion.sampling_schedule import Path
from diffusion_jax.diffusion.types import Keys, Leaf, Level, Waypoint


@runtime_checkable
class Schedule(Protocol):
    """What training and sampling ask of a schedule.

    A position is the schedule's own coordinate of a level: a step t, a time u, or sigma.
    """

    @property
    def sigma_range(self) -> tuple[float, float]:
        """The smallest and the largest noise / signal."""

    def draw(self, keys: Keys) -> Leaf:
        """A position for each training example, (batch,)."""

    def level(self, position: Leaf) -> Level:
        """The levels at these positions, (batch,)."""

    def after(self, position: Leaf) -> Waypoint | None:
        """Where a step of the chain leads from there, (batch,); None if there is no chain."""

    def at_sigma(self, sigma: Leaf, xp: ModuleType) -> Level:
        """The levels with these noise / signal, in float64 (xp = numpy) or under jit."""

    def path(self, steps: int) -> Path:
        """`steps` steps to the clean image, evenly spaced in the schedule's own time."""


@runtime_checkable
class Timed(Protocol):
    """A continuous schedule whose position is a time u, in which it can be cut evenly."""

    @property
    def time_range(self) -> tuple[float, float]:
        """The smallest and the largest u."""

    def level(self, position: Leaf, xp: ModuleType) -> Level:
        """The levels at these u."""


def linear(
    num_steps: int = 1000,
    first_timestep: int = 1,
    rescale_timesteps: bool = False,
    *,
    rescale: bool = False,
) -> discrete_schedules.DiscreteSchedule:
    """beta_t evenly spaced from 1e-4 to 0.02 (DDPM, arXiv:2006.11239, section 4).

    rescale: beta times 1000 / num_steps, so that a chain of any length ends with the same noise
    (Improved DDPM's program).
    """
    scale = 1000 / num_steps if rescale else 1.0
    if 0.02 * scale >= 1:
        raise ValueError(f"rescale=True needs more than 20 steps, not num_steps={num_steps}")
    schedule = discrete_schedules.from_betas(scale * discrete_schedules.linear_betas(num_steps))
    return discrete_schedules.counted_from(schedule, first_timestep, rescale_timesteps)


def cosine(
    num_steps: int = 1000,
    behaviour: str = "corrected",
    first_timestep: int = 1,
    rescale_timesteps: bool = False,
) -> discrete_schedules.DiscreteSchedule:
    """Improved DDPM's cosine (arXiv:2102.09672, eq. 17).

    behaviour: "corrected" has alpha-bar_0 = 1; "original" is the clipped one of
    gmongaras/Diffusion_models_from_scratch.
    """
    if behaviour == "original":
        schedule = original.original_cosine(num_steps)
    else:
        schedule = discrete_schedules.from_betas(discrete_schedules.cosine_betas(num_steps))
    return discrete_schedules.counted_from(schedule, first_timestep, rescale_timesteps)


# What `config.schedule.name` can be. Options are keyword arguments, and a section of the config.
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
    behaviour: str = "corrected",
    first_timestep: int = 1,
    rescale_timesteps: bool = False,
    **options: Any,
) -> Schedule:
    """The training schedule of a config: one of `SCHEDULES`.

    num_steps, behaviour: of discrete schedules, see `cosine`. first_timestep, rescale_timesteps:
    what the network is told in them, see `discrete.counted_from`. options: the schedule's own.
    Raises ValueError for another name, and for options that make no schedule.
    """
    if name not in SCHEDULES:
        raise ValueError(f"Unknown schedule {name!r}; known schedules: {', '.join(SCHEDULES)}")
    shared = {"num_steps": num_steps, "behaviour": behaviour, "first_timestep": first_timestep}
    shared["rescale_timesteps"] = rescale_timesteps
    taken = inspect.signature(SCHEDULES[name]).parameters
    return SCHEDULES[name](**{k: v for k, v in shared.items() if k in taken}, **options)
