"""Continuous noise schedules.

`level` takes NumPy arrays on the host, in float64, or JAX arrays under jit; xp selects which.
"""

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from diffusion_jax.diffusion.sampling_schedule import (
    SamplingSchedule,
    karras_sigmas,
    to_clean_image,
)
from diffusion_jax.diffusion.types import Keys, Leaf, Level, PerExample

LARGEST_C_NOISE = 1000.0  # at the noisy end, as with 1,000 discrete steps


class ContinuousSchedule:
    """Base class of continuous schedules, whose position is a time u in `time_range`.

    Subclasses define `sigma_range`, `time_range`, `level` and `at_sigma`.
    """

    num_steps = None
    time_range: tuple[float, float]
    level: Callable[..., Level]

    def draw(self, keys: Keys) -> PerExample:
        """Draws u uniformly from `time_range`, one for each key."""
        first, last = self.time_range
        return jax.vmap(lambda key: jax.random.uniform(key, (), minval=first, maxval=last))(keys)

    def steps_from(self, position: Leaf) -> None:
        """Returns None: a continuous schedule has no steps, hence no variational bound here."""

    def visit(self, positions: Float[np.ndarray, "num_steps"]) -> SamplingSchedule:
        """Returns the sampling schedule of these u, which increase, and the clean image."""
        return to_clean_image(self.level(positions[::-1], np))

    def sampling_schedule(self, steps: int) -> SamplingSchedule:
        """Returns the schedule of `steps` steps, evenly spaced in u, to the clean image."""
        return self.visit(np.linspace(self.time_range[1], 0, steps + 1)[-2::-1])

    def with_clean_end(self) -> "ContinuousSchedule":
        """Returns the schedule itself, which ends at the clean image."""
        return self


@dataclass(frozen=True)
class ContinuousCosine(ContinuousSchedule):
    """alpha = cos(pi u / 2), sigma = sin(pi u / 2), with u uniform in (0, 1).

    Improved DDPM (arXiv:2102.09672, eq. 17) without its offset, in continuous time: the schedule of
    simple diffusion (arXiv:2301.11093, section 2). log(alpha^2 / sigma^2) stays within
    +-largest_log_snr.
    """

    largest_log_snr: float = 20.0

    def __post_init__(self) -> None:
        if not 0 < self.largest_log_snr <= 30:
            raise ValueError(f"largest_log_snr={self.largest_log_snr} must be in (0, 30]")

    @property
    def sigma_range(self) -> tuple[float, float]:
        """The smallest and the largest sigma / alpha."""
        return float(np.exp(-self.largest_log_snr / 2)), float(np.exp(self.largest_log_snr / 2))

    @property
    def time_range(self) -> tuple[float, float]:
        """The smallest and the largest u."""
        smallest, largest = self.sigma_range
        return 2 / np.pi * float(np.arctan(smallest)), 2 / np.pi * float(np.arctan(largest))

    def level(self, u: Leaf, xp: ModuleType = jnp) -> Level:
        """Returns the levels of these u. alpha is a sine, which is accurate near u = 1."""
        angle = np.pi / 2
        return Level(xp.sin(angle * (1 - u)), xp.sin(angle * u), LARGEST_C_NOISE * u)

    def at_sigma(self, sigma: Leaf, xp: ModuleType = np) -> Level:
        """Returns the levels of these sigma / alpha."""
        return self.level(2 / np.pi * xp.arctan(sigma), xp)


@dataclass(frozen=True)
class Flow(ContinuousSchedule):
    """alpha = 1 - u, sigma = u, with u uniform in (0, 1): straight lines from noise to data.

    Rectified flow (arXiv:2209.03003), flow matching (arXiv:2210.02747), with reversed time.
    nearest_end: smallest distance of u from 0 and 1, where sigma or alpha vanishes; in (0, 0.5).
    """

    nearest_end: float = 1e-5

    def __post_init__(self) -> None:
        if not 0 < self.nearest_end < 0.5:
            raise ValueError(f"nearest_end={self.nearest_end} must be in (0, 0.5)")

    @property
    def sigma_range(self) -> tuple[float, float]:
        """The smallest and the largest sigma / alpha."""
        return self.nearest_end / (1 - self.nearest_end), (1 - self.nearest_end) / self.nearest_end

    @property
    def time_range(self) -> tuple[float, float]:
        """The smallest and the largest u."""
        return self.nearest_end, 1 - self.nearest_end

    def level(self, u: Leaf, xp: ModuleType = jnp) -> Level:
        """Returns the levels of these u."""
        return Level(1 - u, u, LARGEST_C_NOISE * u)

    def at_sigma(self, sigma: Leaf, xp: ModuleType = np) -> Level:
        """Returns the levels of these sigma / alpha."""
        return self.level(sigma / (1 + sigma), xp)


@dataclass(frozen=True)
class EDM(ContinuousSchedule):
    """alpha = 1, with log sigma ~ N(p_mean, p_std^2). EDM (arXiv:2206.00364).

    Training draws sigma as in its table 1. Sampling goes from sigma_max to sigma_min, evenly in
    sigma^(1/rho), and then to 0 (eq. 5). The c_noise is log(sigma) / 4.
    """

    p_mean: float = -1.2
    p_std: float = 1.2
    sigma_min: float = 0.002
    sigma_max: float = 80.0
    rho: float = 7.0

    time_range = None  # pyright: ignore[reportAssignmentType]  # sigma is drawn, not a time

    def __post_init__(self) -> None:
        if not 0 < self.sigma_min < self.sigma_max or self.rho <= 0 or self.p_std <= 0:
            raise ValueError(f"{self} must have 0 < sigma_min < sigma_max, rho > 0 and p_std > 0")

    @property
    def sigma_range(self) -> tuple[float, float]:
        """The smallest and the largest sigma of sampling."""
        return self.sigma_min, self.sigma_max

    def draw(self, keys: Keys) -> PerExample:
        """Draws sigma, one for each key."""
        normal = jax.vmap(lambda key: jax.random.normal(key, ()))(keys)
        return jnp.exp(self.p_mean + self.p_std * normal)

    def level(self, sigma: Leaf, xp: ModuleType = jnp) -> Level:
        """Returns the levels of these sigma, which are positive."""
        return Level(xp.ones_like(sigma), sigma, xp.log(sigma) / 4)

    def at_sigma(self, sigma: Leaf, xp: ModuleType = np) -> Level:
        """Returns the levels of these sigma."""
        return self.level(sigma, xp)

    def sampling_schedule(self, steps: int) -> SamplingSchedule:
        """Returns the schedule of eq. 5: even in sigma^(1/rho), then the clean image."""
        return self.visit(karras_sigmas(steps, self.sigma_min, self.sigma_max, self.rho)[::-1])
