"""Continuous noise schedules, with a level for every time.

`level` takes NumPy arrays on the host, in float64, or JAX arrays under jit; xp says which.
"""

from dataclasses import dataclass
from types import ModuleType

import jax
import jax.numpy as jnp
import numpy as np

from diffusion_jax.diffusion import sampling_schedule
from diffusion_jax.diffusion.types import Keys, Leaf, Level, PerExample

CLOCK = 1000.0  # what a network is told at the noisy end, as with 1,000 discrete steps


@dataclass(frozen=True)
class ContinuousCosine:
    """signal = cos(pi u / 2), noise = sin(pi u / 2), with u uniform in (0, 1).

    Improved DDPM (arXiv:2102.09672, eq. 17) without its offset, in continuous time: the schedule of
    simple diffusion (arXiv:2301.11093, section 2). log(signal^2 / noise^2) stays within +-20.
    """

    largest_log_snr: float = 20.0

    def __post_init__(self) -> None:
        if not 0 < self.largest_log_snr <= 30:
            raise ValueError(f"largest_log_snr={self.largest_log_snr} must be in (0, 30]")

    @property
    def sigma_range(self) -> tuple[float, float]:
        """The smallest and the largest noise / signal."""
        return float(np.exp(-self.largest_log_snr / 2)), float(np.exp(self.largest_log_snr / 2))

    @property
    def time_range(self) -> tuple[float, float]:
        """The smallest and the largest u."""
        smallest, largest = self.sigma_range
        return 2 / np.pi * float(np.arctan(smallest)), 2 / np.pi * float(np.arctan(largest))

    def draw(self, keys: Keys) -> PerExample:
        """u, one for each key."""
        first, last = self.time_range
        return jax.vmap(lambda key: jax.random.uniform(key, (), minval=first, maxval=last))(keys)

    def level(self, u: Leaf, xp: ModuleType = jnp) -> Level:
        """The levels of these u. The cosine of u is the sine of 1 - u, which keeps its digits."""
        angle = np.pi / 2
        return Level(xp.sin(angle * (1 - u)), xp.sin(angle * u), CLOCK * u)

    def after(self, position: Leaf) -> None:
        """There is no next level, and hence no variational bound."""

    def at_sigma(self, sigma: Leaf, xp: ModuleType = np) -> Level:
        """The levels of these noise / signal."""
        return self.level(2 / np.pi * xp.arctan(sigma), xp)

    def path(self, steps: int) -> sampling_schedule.Path:
        """Evenly spaced in u, from the largest log-SNR to the clean image."""
        u = np.linspace(self.time_range[1], 0, steps + 1)
        return sampling_schedule.from_levels(self.level(u, np))


@dataclass(frozen=True)
class Flow:
    """signal = 1 - u, noise = u, with u uniform in (0, 1): straight lines from noise to data.

    Rectified flow (arXiv:2209.03003), flow matching (arXiv:2210.02747), with time turned around.
    nearest_end: how close u comes to 0 and 1, where signal or noise vanish.
    """

    nearest_end: float = 1e-5

    def __post_init__(self) -> None:
        if not 0 < self.nearest_end < 0.5:
            raise ValueError(f"nearest_end={self.nearest_end} must be in (0, 0.5)")

    @property
    def sigma_range(self) -> tuple[float, float]:
        """The smallest and the largest noise / signal."""
        return self.nearest_end / (1 - self.nearest_end), (1 - self.nearest_end) / self.nearest_end

    @property
    def time_range(self) -> tuple[float, float]:
        """The smallest and the largest u."""
        return self.nearest_end, 1 - self.nearest_end

    def draw(self, keys: Keys) -> PerExample:
        """u, one for each key."""
        first, last = self.time_range
        return jax.vmap(lambda key: jax.random.uniform(key, (), minval=first, maxval=last))(keys)

    def level(self, u: Leaf, xp: ModuleType = jnp) -> Level:
        """The levels of these u."""
        return Level(1 - u, u, CLOCK * u)

    def after(self, position: Leaf) -> None:
        """There is no next level, and hence no variational bound."""

    def at_sigma(self, sigma: Leaf, xp: ModuleType = np) -> Level:
        """The levels of these noise / signal."""
        return self.level(sigma / (1 + sigma), xp)

    def path(self, steps: int) -> sampling_schedule.Path:
        """Evenly spaced in u, from (nearly) pure noise to the clean image."""
        u = np.linspace(self.time_range[1], 0, steps + 1)
        return sampling_schedule.from_levels(self.level(u, np))


@dataclass(frozen=True)
class EDM:
    """signal = 1, noise = sigma, with log sigma ~ N(p_mean, p_std^2). EDM (arXiv:2206.00364).

    Training draws sigma as in its table 1. Sampling goes from sigma_max to sigma_min, evenly in
    sigma^(1/rho), and then to 0 (eq. 5). The c_noise is log(sigma) / 4.
    """

    p_mean: float = -1.2
    p_std: float = 1.2
    sigma_min: float = 0.002
    sigma_max: float = 80.0
    rho: float = 7.0

    def __post_init__(self) -> None:
        if not 0 < self.sigma_min < self.sigma_max or self.rho <= 0 or self.p_std <= 0:
            raise ValueError(f"{self} must have 0 < sigma_min < sigma_max, rho > 0 and p_std > 0")

    @property
    def sigma_range(self) -> tuple[float, float]:
        """The smallest and the largest noise / signal of sampling."""
        return self.sigma_min, self.sigma_max

    def draw(self, keys: Keys) -> PerExample:
        """sigma, one for each key."""
        normal = jax.vmap(lambda key: jax.random.normal(key, ()))(keys)
        return jnp.exp(self.p_mean + self.p_std * normal)

    def level(self, sigma: Leaf, xp: ModuleType = jnp) -> Level:
        """The levels of these sigma, which are positive."""
        return Level(xp.ones_like(sigma), sigma, xp.log(sigma) / 4)

    def after(self, position: Leaf) -> None:
        """There is no next level, and hence no variational bound."""

    def at_sigma(self, sigma: Leaf, xp: ModuleType = np) -> Level:
        """The levels of these noise / signal."""
        return self.level(sigma, xp)

    def path(self, steps: int) -> sampling_schedule.Path:
        """Eq. 5: even in sigma^(1/rho), then the clean image."""
        sigma = sampling_schedule.karras_sigmas(steps, self.sigma_min, self.sigma_max, self.rho)
        return sampling_schedule.to_clean_image(self.level(sigma, np))
