"""Sampling schedules: the levels that a solver visits."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, PyTree

from diffusion_jax.diffusion.step_coefficients import PerStep, StepCoefficients, step_coefficients
from diffusion_jax.diffusion.types import CNoise, Leaf, Level

Numbers = Float[np.ndarray, "num_levels"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class SamplingSchedule:
    """The num_steps + 1 levels that a solver visits, in order, and the steps between them.

    The noise may decrease to the clean image, stop before it, or increase (inversion).

    Args:
        levels: arrays (num_steps + 1,).
        steps: arrays (num_steps,).
        noised: (num_steps,), True for a step in which the forward process adds noise of variance
            beta in place of the solver (RePaint); None without such steps.
    """

    levels: Level
    steps: StepCoefficients
    noised: Leaf = None

    @property
    def num_steps(self) -> int:
        return self.levels.alpha.shape[0] - 1

    @property
    def start(self) -> Level:
        """The first level, with scalars for the whole batch."""
        return jax.tree.map(lambda row: jnp.asarray(row[0], jnp.float32), self.levels)

    @property
    def init_noise_std(self) -> Leaf:
        """The standard deviation of the initial noise.

        max(1, sigma) of the first level: 1 if variance-preserving or a flow, sigma_max for EDM.
        """
        return jnp.maximum(1.0, jnp.asarray(self.levels.sigma, jnp.float32)[0])

    def pairs(self) -> tuple[Level, Level]:
        """Returns the levels (now, next) of every step, each with arrays (num_steps,)."""
        return (
            jax.tree.map(lambda row: row[:-1], self.levels),
            jax.tree.map(lambda row: row[1:], self.levels),
        )

    def from_level(self, first: int) -> "SamplingSchedule":
        """Returns the schedule from level number `first` on, for image-to-image.

        Raises ValueError unless at least one step remains.
        """
        if not 0 <= first < self.num_steps:
            raise ValueError(f"first={first} is not in 0..{self.num_steps - 1}")
        return jax.tree.map(lambda row: np.asarray(row)[first:], self)

    def reversed(self) -> "SamplingSchedule":
        """Returns the levels in reverse, for inversion. DDIM (arXiv:2010.02502), section 4.3.

        The clean image has no noise to estimate: it is left out, and the image takes its place at
        the least noisy level. Equal neighbors, which the original's cosine has, are visited once.
        """
        sigma = np.asarray(self.levels.sigma)
        ratio = np.asarray(self.levels.alpha) / np.maximum(sigma, np.finfo(sigma.dtype).tiny)
        keep = (sigma > 0) & np.append(np.diff(ratio) > 0, True)
        return from_levels(jax.tree.map(lambda row: np.asarray(row)[keep][::-1], self.levels))


def from_levels(levels: Level, betas: PerStep | None = None) -> SamplingSchedule:
    """Returns the schedule that visits these levels, (num_steps + 1,), in this order.

    betas: see `step_coefficients`.
    Raises ValueError if there are fewer than two, or two neighbors are the same.
    """
    levels = jax.tree.map(lambda row: np.asarray(row, np.float64), levels)
    if len(levels.alpha) < 2:
        raise ValueError(f"A sampling schedule has at least two levels; got {len(levels.alpha)}")
    return SamplingSchedule(levels, step_coefficients(levels, betas))


def to_clean_image(levels: Level) -> SamplingSchedule:
    """Returns the schedule that visits these levels, then the clean image."""
    return from_levels(
        Level(
            alpha=np.append(levels.alpha, 1.0),
            sigma=np.append(levels.sigma, 0.0),
            c_noise=np.append(levels.c_noise, 0.0),
        )
    )


def to_float32(rows: PyTree) -> PyTree:
    """Converts float64 arrays to float32 NumPy arrays; bool arrays stay."""

    def narrow(row: Leaf) -> np.ndarray:
        row = np.asarray(row)
        return row if row.dtype == bool else row.astype(np.float32)

    return jax.tree.map(narrow, rows)


def map_c_noises(tree: PyTree, convert: Callable[[CNoise], PyTree]) -> PyTree:
    """Replaces c_noise by convert(c_noise) in every `Level` of a pytree."""

    def is_level(part: Any) -> bool:
        return isinstance(part, Level)

    def converted(part: Any) -> Any:
        return replace(part, c_noise=convert(part.c_noise)) if is_level(part) else part

    return jax.tree.map(converted, tree, is_leaf=is_level)


def karras_sigmas(count: int, smallest: float, largest: float, rho: float) -> Numbers:
    """Returns `count` values of sigma / alpha from largest to smallest, even in sigma^(1/rho).

    EDM (arXiv:2206.00364), eq. 5. A single one is the largest.
    """
    place = np.linspace(0, 1, count) if count > 1 else np.zeros(1)
    ends = largest ** (1 / rho), smallest ** (1 / rho)
    return (ends[0] + place * (ends[1] - ends[0])) ** rho
