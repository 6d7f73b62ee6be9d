"""Paths: the levels that a solver visits, and what each of its steps needs of two neighbors.

Everything is computed once, on the host, in float64: differences between close levels would lose
their digits in float32.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, PyTree

from diffusion_jax.diffusion.types import Leaf, Level, Waypoint

Numbers = Float[np.ndarray, "num_steps"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Path:
    """num_steps + 1 levels, in the order of the visits.

    waypoints: a Waypoint whose fields are arrays (num_steps + 1,).
    noised: of each step, whether the forward process makes it, with fresh noise, instead of a
    solver (num_steps,); None if there are no such steps.
    A path may go down to the clean image, stop before it, or climb (inversion).
    """

    waypoints: Waypoint
    noised: Leaf = None

    @property
    def num_steps(self) -> int:
        return self.waypoints.alpha.shape[0] - 1

    @property
    def start_std(self) -> Leaf:
        """The standard deviation of the noise to start from, where nothing else is given.

        1 where the signal vanishes as the noise grows, and the noise where the signal stays (EDM).
        """
        return jnp.maximum(1.0, jnp.asarray(self.waypoints.sigma, jnp.float32)[0])

    def steps(self) -> tuple[Waypoint, Waypoint]:
        """(now, next) of every step, each with arrays (num_steps,)."""
        return (
            jax.tree.map(lambda row: row[:-1], self.waypoints),
            jax.tree.map(lambda row: row[1:], self.waypoints),
        )

    def since(self, first: int) -> "Path":
        """The rest of the path from its waypoint number `first` on (image-to-image).

        Raises ValueError unless at least one step remains.
        """
        if not 0 <= first < self.num_steps:
            raise ValueError(f"first={first} is not in 0..{self.num_steps - 1}")
        rest = jax.tree.map(lambda row: np.array(row)[first:], self.waypoints)
        rest.log_snr_step[0] = np.inf  # no step arrives where a path begins
        return Path(rest, None if self.noised is None else np.asarray(self.noised)[first:])

    def climbing(self) -> "Path":
        """The same levels in reverse, starting from the least noisy one that a network can denoise.

        A clean image has no noise to estimate. A path that ends there is reversed from the level
        before, at which the image is placed. DDIM (arXiv:2010.02502), section 4.3. Levels that
        equal the one before, which the original's cosine has, are visited once.
        """
        levels = self.levels()
        noise = np.asarray(levels.sigma)
        ratio = np.asarray(levels.alpha) / np.maximum(noise, np.finfo(noise.dtype).tiny)
        keep = (noise > 0) & np.append(np.diff(ratio) > 0, True)
        levels = jax.tree.map(lambda row: np.asarray(row)[keep][::-1], levels)
        return from_levels(levels)

    @property
    def start(self) -> Level:
        """The first level, one number for the whole batch."""
        return jax.tree.map(lambda row: jnp.asarray(row[0], jnp.float32), self.levels())

    def levels(self) -> Level:
        """The levels alone, arrays (num_steps + 1,)."""
        return Level(**{f.name: getattr(self.waypoints, f.name) for f in fields(Level)})

    def with_c_noises(self, tell: Callable[[Leaf], PyTree]) -> "Path":
        """The path with tell(c_noise) in place of each c_noise, also of levels between its own."""

        def told(part: Any) -> Any:
            if not isinstance(part, Level):
                return part
            parts = {f.name: getattr(part, f.name) for f in fields(part)}
            parts = jax.tree.map(told, parts, is_leaf=lambda inner: isinstance(inner, Level))
            return replace(part, **parts | {"c_noise": tell(part.c_noise)})

        return replace(self, waypoints=told(self.waypoints))


def from_levels(levels: Level) -> Path:
    """The path that visits these levels, float64 arrays (num_steps + 1,), in this order.

    Raises ValueError if there are fewer than two, or two neighbors are the same.
    """
    signal, noise = (np.asarray(row, np.float64) for row in (levels.alpha, levels.sigma))
    if len(signal) < 2:
        raise ValueError(f"A path visits at least two levels; got {len(signal)}")
    with np.errstate(divide="ignore", invalid="ignore"):
        snr = np.log(signal) - np.log(noise)
        log_snr_step = np.diff(snr)
        ratio = signal[:-1] / signal[1:]  # of the signals, before and here
        beta = noise[:-1] ** 2 - (ratio * noise[1:]) ** 2
        down = log_snr_step > 0
        shrink = np.where(noise[:-1] > 0, noise[1:] / noise[:-1], 0) ** 2
        # Climbing, the forward process itself leads on, and there is no posterior.
        beta, variance = (np.where(down, row, 0) for row in (beta, shrink * beta))
        posterior_x0 = np.where(down, signal[1:] * beta / noise[:-1] ** 2, 0)
        posterior_x = np.where(down, ratio * shrink, 0)
    same = (log_snr_step == 0) | np.isnan(log_snr_step)
    if same.any():
        place = int(same.argmax())
        raise ValueError(
            f"Levels {place} and {place + 1} of the path, of {len(signal)}, are the same: signal "
            f"{signal[place]:.3g}, noise {noise[place]:.3g}. Take fewer steps or another spacing"
        )
    return Path(
        waypoints(
            levels,
            beta=beta,
            posterior_variance=variance,
            variance_left=noise[1:] ** 2 - variance,
            posterior_x0=posterior_x0,
            posterior_x=posterior_x,
            log_snr_step=log_snr_step,
        )
    )


def waypoints(
    levels: Level,
    *,
    beta: Numbers,
    posterior_variance: Numbers,
    variance_left: Numbers,
    posterior_x0: Numbers,
    posterior_x: Numbers,
    log_snr_step: Numbers,
) -> Waypoint:
    """The waypoints of a path, from its levels (num_steps + 1,) and its steps (num_steps,)."""
    # Where the variance is 0, at the clean image, the logarithm is that of the step before.
    known = posterior_variance.copy()
    for step in np.flatnonzero(known <= 0):
        known[step] = known[step - 1] if step and known[step - 1] > 0 else beta[step]
    log_variance = np.log(np.maximum(known, np.finfo(known.dtype).tiny))

    def arriving(row: Numbers, at_start: float = 0.0) -> Float[np.ndarray, "num_steps_plus_1"]:
        return np.concatenate([np.full(1, at_start, row.dtype), row])

    last = np.zeros(len(beta) + 1, bool)
    last[-1] = True
    return Waypoint(
        alpha=levels.alpha,
        sigma=levels.sigma,
        c_noise=np.asarray(levels.c_noise, np.float64),
        beta=arriving(beta),
        posterior_variance=arriving(posterior_variance),
        log_posterior_variance=arriving(log_variance),
        variance_left=arriving(np.maximum(variance_left, 0)),
        posterior_x0=arriving(posterior_x0),
        posterior_x=arriving(posterior_x),
        log_snr_step=arriving(log_snr_step, np.inf),
        last=last,
    )


def on_device(path: Path) -> Path:
    """The path in float32, which is what jitted code reads; still NumPy's arrays."""

    def narrow(row: Leaf) -> np.ndarray:
        row = np.asarray(row)
        return row if row.dtype == bool else row.astype(np.float32)

    return jax.tree.map(narrow, path)


def to_clean_image(levels: Level) -> Path:
    """The path that visits these levels and then the clean image: one step for each of them."""
    signal, noise, c_noise = (
        np.append(row, end)
        for row, end in zip((levels.alpha, levels.sigma, levels.c_noise), (1.0, 0.0, 0.0))
    )
    return from_levels(Level(signal, noise, c_noise))


def karras_sigmas(count: int, smallest: float, largest: float, rho: float) -> Numbers:
    """`count` values of noise / signal from largest to smallest, even in sigma^(1/rho).

    EDM (arXiv:2206.00364), eq. 5. A single one is the largest.
    """
    place = np.linspace(0, 1, count) if count > 1 else np.zeros(1)
    ends = largest ** (1 / rho), smallest ** (1 / rho)
    return (ends[0] + place * (ends[1] - ends[0])) ** rho
