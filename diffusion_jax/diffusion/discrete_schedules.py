"""Discrete noise schedules: tables of a chain of steps t = 1 .. T, as in DDPM.

Tables are computed once, on the host, in float64 NumPy (the original's cosine in float32, as in the
original). They have num_steps + 1 entries, indexed as in the papers: t = 1 .. num_steps, and 0 for
the clean image.
"""

from dataclasses import dataclass, replace
from types import ModuleType

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, Num

from diffusion_jax.diffusion.sampling_schedule import SamplingSchedule, from_levels, to_float32
from diffusion_jax.diffusion.step_coefficients import StepCoefficients
from diffusion_jax.diffusion.types import Keys, Leaf, Level, Timesteps

Betas = Float[np.ndarray, "num_steps"]
Table = Float[np.ndarray, "num_steps_plus_1"]
Positions = Int[np.ndarray, "kept"]


@dataclass(frozen=True)
class DiscreteSchedule:
    """A chain of num_steps steps (DDPM, arXiv:2006.11239, section 2).

    Positions are t. `timesteps[t]` is the c_noise of the network, which differs from t in a
    respaced chain. alphas and one_minus_alphas_bar are stored because 1 - x would lose digits in
    float32 where x is close to 1. beta_bounds: interval into which beta_t was clipped.
    """

    timesteps: Num[np.ndarray, "num_steps_plus_1"]
    betas: Table
    alphas: Table
    alphas_bar: Table
    one_minus_alphas_bar: Table
    log_posterior_variance: Table  # log beta-tilde; where beta-tilde is 0 (t = 1), the next entry
    beta_bounds: tuple[float, float] = (0.0, 1.0)

    @property
    def num_steps(self) -> int:
        return len(self.timesteps) - 1

    @property
    def time_range(self) -> tuple[float, float]:
        """The first and the last step."""
        return 1.0, float(self.num_steps)

    @property
    def sigma_range(self) -> tuple[float, float]:
        """sigma / alpha of the first and of the last step."""
        sigma = self._sigma()
        return float(sigma[1]), float(sigma[-1])

    def draw(self, keys: Keys) -> Timesteps:
        """Draws t uniformly from 1 .. num_steps, one for each key. DDPM, algorithm 1."""
        return jax.vmap(lambda key: jax.random.randint(key, (), 1, self.num_steps + 1))(keys)

    def level(self, t: Leaf, xp: ModuleType = jnp) -> Level:
        """Returns the levels of these steps, (batch,); in float64 with xp = numpy."""
        dtype = jnp.float32 if xp is jnp else np.float64
        return jax.tree.map(lambda table: xp.asarray(table, dtype)[t], self._levels())

    def steps_from(self, t: Timesteps) -> StepCoefficients:
        """Returns the coefficients of the steps from t to t - 1, (batch,)."""
        steps = to_float32(self.sampling_schedule().steps)
        return jax.tree.map(lambda row: jnp.asarray(row[::-1])[t - 1], steps)

    def at_sigma(self, sigma: Leaf, xp: ModuleType = np) -> Level:
        """Returns the levels of these sigma / alpha, in float64 (xp = numpy) or under jit.

        c_noise is interpolated in log(sigma / alpha), as in k-diffusion, and constant outside the
        chain.
        """
        known, first = np.unique(np.log(self._sigma()[1:]), return_index=True)
        c_noises = self.timesteps[1:].astype(np.float64)[first]
        alpha = 1 / xp.sqrt(1 + sigma**2)
        return Level(alpha, sigma * alpha, xp.interp(xp.log(sigma), known, c_noises))

    def visit(self, positions: Positions) -> SamplingSchedule:
        """Returns the sampling schedule of these timesteps, which increase, and t = 0."""
        return respace(self, positions).sampling_schedule()

    def sampling_schedule(self, steps: int | None = None) -> SamplingSchedule:
        """Returns the sampling schedule of all timesteps, or of evenly spaced ones, and t = 0.

        steps: see `steps_by_count`. Raises ValueError for more than the chain has.
        """
        if steps is not None:
            return self.visit(steps_by_count(self.num_steps, steps))
        levels = jax.tree.map(lambda table: table[::-1], self._levels())
        return from_levels(levels, betas=self.betas[:0:-1])

    def with_clean_end(self) -> "DiscreteSchedule":
        """Returns the chain in float64 with alpha-bar_0 = 1; only the original's cosine changes."""
        alphas_bar = np.array(self.alphas_bar, np.float64)
        alphas_bar[0] = 1
        return from_alphas_bar(alphas_bar, self.timesteps, self.beta_bounds)

    def _levels(self) -> Level:
        return Level(
            alpha=np.sqrt(np.asarray(self.alphas_bar, np.float64)),
            sigma=np.sqrt(np.asarray(self.one_minus_alphas_bar, np.float64)),
            c_noise=self.timesteps.astype(np.float64),
        )

    def _sigma(self) -> Table:
        return np.sqrt(self.one_minus_alphas_bar / self.alphas_bar)


def linear_betas(num_steps: int, start: float = 1e-4, end: float = 0.02) -> Betas:
    """beta_t evenly spaced from `start` to `end` (DDPM, section 4)."""
    return np.linspace(start, end, num_steps, dtype=np.float64)


def cosine_betas(num_steps: int, largest: float = 0.999) -> Betas:
    """beta_t = min(1 - f(t/T) / f((t-1)/T), 0.999), f(u) = cos^2(pi/2 (u + 0.008) / 1.008).

    Improved DDPM (arXiv:2102.09672), eq. 17 and the sentence after it.
    """
    alphas_bar = _cosine(np.arange(num_steps + 1) / num_steps)
    return np.minimum(1 - alphas_bar[1:] / alphas_bar[:-1], largest)


def from_betas(betas: Betas) -> DiscreteSchedule:
    """Returns the schedule with these beta_1 .. beta_T: alpha-bar_t = prod(1 - beta)."""
    if not np.all((betas > 0) & (betas < 1)):
        raise ValueError("betas must lie strictly between 0 and 1")
    alphas_bar = np.concatenate([[1.0], np.cumprod(1 - betas)])
    return from_alphas_bar(alphas_bar, np.arange(len(alphas_bar)))


def from_alphas_bar(
    alphas_bar: Table,
    timesteps: Num[np.ndarray, "num_steps_plus_1"],
    beta_bounds: tuple[float, float] = (0.0, 1.0),
) -> DiscreteSchedule:
    """Returns the schedule with these alpha-bar_t: beta_t = 1 - alpha-bar_t / alpha-bar_{t-1}.

    beta_bounds: beta_t is clipped into this interval (alpha-bar stays as given). The tables are
    computed in the precision of alphas_bar, float64 or float32.
    """
    number = alphas_bar.dtype.type
    lowest, highest = map(number, beta_bounds)
    betas = np.clip(1 - alphas_bar[1:] / alphas_bar[:-1], lowest, highest)
    ratio = (1 - alphas_bar[:-1]) / (1 - alphas_bar[1:])
    # Entry 0 is unused.
    betas, ratio = np.append(number(0), betas), np.append(number(0), ratio)
    variance = ratio * betas
    if variance[1] == 0:
        variance[1] = variance[2] if len(variance) > 2 else betas[1]
    variance[0] = variance[1]
    return DiscreteSchedule(
        timesteps=np.asarray(timesteps),
        betas=betas,
        alphas=1 - betas,
        alphas_bar=alphas_bar,
        one_minus_alphas_bar=1 - alphas_bar,
        log_posterior_variance=np.log(variance),
        beta_bounds=beta_bounds,
    )


def with_timesteps(
    schedule: DiscreteSchedule, first_timestep: int, rescale: bool = False
) -> DiscreteSchedule:
    """Returns the chain with the timesteps first_timestep, first_timestep + 1, ... as c_noise.

    first_timestep: c_noise of t = 1: 1 as in DDPM's paper, or 0 as in most programs. Raises
    ValueError for another.
    rescale: True multiplies the timesteps by 1000 / num_steps, as in Improved DDPM's program.
    """
    if first_timestep not in (0, 1):
        raise ValueError(f"first_timestep={first_timestep} must be 0 or 1")
    timesteps = np.maximum(np.arange(schedule.num_steps + 1) + first_timestep - 1, 0)
    return replace(schedule, timesteps=timesteps * (1000 / schedule.num_steps if rescale else 1))


def respace(schedule: DiscreteSchedule, steps: Positions) -> DiscreteSchedule:
    """Returns the chain of some timesteps of `schedule` (Improved DDPM, section 4, eq. 19).

    beta is recomputed from alpha-bar, in its dtype, and c_noise is kept. For use outside jit.

    steps: increasing t in 1 .. num_steps.
    """
    steps = np.asarray(steps)
    valid = len(steps) > 0 and steps[0] >= 1 and steps[-1] <= schedule.num_steps
    if not valid or np.any(np.diff(steps) <= 0):
        raise ValueError(f"Steps must increase within 1..{schedule.num_steps}; got {steps}")
    kept = np.concatenate([[0], steps])
    return from_alphas_bar(
        np.asarray(schedule.alphas_bar)[kept],
        np.asarray(schedule.timesteps)[kept],
        schedule.beta_bounds,
    )


def steps_by_stride(num_steps: int, stride: int) -> Positions:
    """Returns 1, 1 + stride, 1 + 2 stride, ..., which may not include T."""
    if not 1 <= stride <= num_steps:
        raise ValueError(f"stride={stride} is not in 1..{num_steps}, the length of the chain")
    return np.arange(1, num_steps + 1, stride)


def steps_by_count(num_steps: int, count: int, spacing: str = "ends") -> Positions:
    """Returns `count` evenly spaced timesteps, in increasing order.

    spacing: "ends" includes t = 1 and T (Improved DDPM, section 4); "centered" has the centers of
    `count` equal intervals (nice-diffusion).
    """
    if not 1 <= count <= num_steps:
        raise ValueError(f"steps={count} is not in 1..{num_steps}, the length of the chain")
    if spacing == "ends":
        # A single step starts from pure noise, at T.
        return np.rint(np.linspace(1 if count > 1 else num_steps, num_steps, count)).astype(int)
    if spacing == "centered":
        return 1 + num_steps // (2 * count) + np.arange(count) * (num_steps // count)
    raise ValueError(f"Unknown spacing {spacing!r}; known spacings: ends, centered")


def _cosine(fraction: Float[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
    return np.cos((fraction + 0.008) / 1.008 * np.pi / 2) ** 2
