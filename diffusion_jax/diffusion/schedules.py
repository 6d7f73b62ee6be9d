"""Noise schedules: how fast the forward process destroys the image.

Everything here runs once, on the host, in float64 NumPy (the reference's cosine alone has float32
tables, as the original does). A `Schedule` is a small pytree of tables that jitted code reads as
float32. Tables have num_steps + 1 entries and are indexed as the papers do: entry t belongs to step
t = 1 .. num_steps, and entry 0 to the clean image.
"""

from dataclasses import dataclass, field
from pathlib import Path

import jax
import numpy as np
from jaxtyping import Float, Int

from diffusion_jax.diffusion.types import Leaf

Betas = Float[np.ndarray, "num_steps"]
Table = Float[np.ndarray, "num_steps_plus_1"]
Positions = Int[np.ndarray, "kept"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Schedule:
    """Tables of a chain of num_steps steps (DDPM, arXiv:2006.11239, section 2).

    There are two clocks: t, the position in this chain, and `timesteps[t]`, what the network is
    told, which differ once a chain has been respaced. alphas and one_minus_alphas_bar are tables
    of their own because 1 - x in float32 would lose their digits where x is close to 1.
    """

    timesteps: Leaf
    betas: Leaf
    alphas: Leaf
    alphas_bar: Leaf
    one_minus_alphas_bar: Leaf
    log_posterior_variance: Leaf  # log beta-tilde; where beta-tilde is 0 (t = 1), the next entry
    beta_bounds: tuple[float, float] = field(default=(0.0, 1.0), metadata={"static": True})

    @property
    def num_steps(self) -> int:
        return self.timesteps.shape[0] - 1


def linear_betas(num_steps: int, start: float = 1e-4, end: float = 0.02) -> Betas:
    """beta_t evenly spaced from `start` to `end` (DDPM, section 4)."""
    return np.linspace(start, end, num_steps, dtype=np.float64)


def cosine_betas(num_steps: int, largest: float = 0.999) -> Betas:
    """beta_t = min(1 - f(t/T) / f((t-1)/T), 0.999), f(u) = cos^2(pi/2 (u + 0.008) / 1.008).

    Improved DDPM (arXiv:2102.09672), eq. 17 and the sentence after it.
    """
    signal = _cosine(np.arange(num_steps + 1) / num_steps)
    return np.minimum(1 - signal[1:] / signal[:-1], largest)


def reference_cosine_alphas_bar(num_steps: int) -> Table:
    """The cosine alpha-bar as gmongaras/Diffusion_models_from_scratch computes it.

    alpha-bar_t = clip(f(t/T) / f(0), 1e-10, 0.999), at t = 0 too: the first 13 of 1000 steps are
    identical and samples keep noise of standard deviation sqrt(0.001).

    The result is float32 with the very bits of PyTorch, because beta = 1 - alpha-bar_t /
    alpha-bar_{t-1} loses most digits: another last bit of alpha-bar changes a small beta by 0.1 %.
    PyTorch's cosine is the correctly rounded one but for a unit in the last place here and there;
    `original_cosine.npz` lists where, for T up to 1000 and multiples of 250 up to 5000 (PyTorch
    2.15 on a CPU with AVX-512). For other T a few entries may differ in the last bit.
    """
    float32 = np.float32
    fraction = np.arange(num_steps + 1, dtype=float32) / float32(num_steps)
    angle = (fraction + float32(0.008)) / float32(1.008) * float32(np.pi) / float32(2)
    cosine = np.cos(angle.astype(np.float64)).astype(float32)
    with np.load(Path(__file__).with_name("original_cosine.npz")) as table:
        here = table["num_steps"] == num_steps
        bits = cosine.view(np.int32)
        bits[table["index"][here]] += table["units"][here]
    signal = cosine * cosine
    return np.clip(signal / signal[0], float32(1e-10), float32(0.999))


def from_betas(betas: Betas) -> Schedule:
    """The schedule with these beta_1 .. beta_T; alpha-bar_0 = 1, alpha-bar_t = prod(1 - beta)."""
    if not np.all((betas > 0) & (betas < 1)):
        raise ValueError("betas must lie strictly between 0 and 1")
    alphas_bar = np.concatenate([[1.0], np.cumprod(1 - betas)])
    return from_alphas_bar(alphas_bar, np.arange(len(alphas_bar)))


def from_alphas_bar(
    alphas_bar: Table,
    timesteps: Int[np.ndarray, "num_steps_plus_1"],
    beta_bounds: tuple[float, float] = (0.0, 1.0),
) -> Schedule:
    """The schedule with these alpha-bar_t: beta_t = 1 - alpha-bar_t / alpha-bar_{t-1}.

    beta_bounds: beta_t is clipped into this interval (alpha-bar stays as given). The tables are
    computed in the precision of alphas_bar, float64 or float32.
    """
    number = alphas_bar.dtype.type
    lowest, highest = map(number, beta_bounds)
    betas = np.clip(1 - alphas_bar[1:] / alphas_bar[:-1], lowest, highest)
    ratio = (1 - alphas_bar[:-1]) / (1 - alphas_bar[1:])
    # Entry 0, which no step reads.
    betas, ratio = np.append(number(0), betas), np.append(number(0), ratio)
    variance = ratio * betas
    if variance[1] == 0:
        variance[1] = variance[2] if len(variance) > 2 else betas[1]
    variance[0] = variance[1]
    return Schedule(
        timesteps=np.asarray(timesteps, np.int32),
        betas=betas,
        alphas=1 - betas,
        alphas_bar=alphas_bar,
        one_minus_alphas_bar=1 - alphas_bar,
        log_posterior_variance=np.log(variance),
        beta_bounds=beta_bounds,
    )


def respace(schedule: Schedule, steps: Positions) -> Schedule:
    """The chain that visits only these steps of `schedule` (Improved DDPM, section 4, eq. 19).

    steps: increasing positions in `schedule`, each in 1 .. num_steps. beta is recomputed from
    alpha-bar, in its precision, and the network is still told the old timesteps. Must be called
    outside jit.
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
    """Every stride-th step, from the first: 1, 1 + stride, ... (the last may fall short of T)."""
    if not 1 <= stride <= num_steps:
        raise ValueError(f"stride={stride} is not in 1..{num_steps}, the length of the chain")
    return np.arange(1, num_steps + 1, stride)


def steps_by_count(num_steps: int, count: int, spacing: str = "ends") -> Positions:
    """`count` evenly spaced steps.

    spacing: "ends" has both the first and the last step (1 and T; Improved DDPM, section 4),
    "centred" the middles of `count` equal stretches (nice-diffusion).
    """
    if not 1 <= count <= num_steps:
        raise ValueError(f"steps={count} is not in 1..{num_steps}, the length of the chain")
    if spacing == "ends":
        # A single step has to start from pure noise, hence from the last one.
        return np.rint(np.linspace(1 if count > 1 else num_steps, num_steps, count)).astype(int)
    if spacing == "centred":
        return 1 + num_steps // (2 * count) + np.arange(count) * (num_steps // count)
    raise ValueError(f"Unknown spacing {spacing!r}; known spacings: ends, centred")


def make_schedule(name: str, num_steps: int, behaviour: str = "corrected") -> Schedule:
    """The training schedule of a config.

    name: "linear" or "cosine". behaviour: "corrected" has alpha-bar_0 = 1; "reference" makes the
    cosine the clipped one of gmongaras/Diffusion_models_from_scratch.
    Raises ValueError for another name.
    """
    if name == "linear":
        return from_betas(linear_betas(num_steps))
    if name == "cosine" and behaviour == "reference":
        table = reference_cosine_alphas_bar(num_steps)
        return from_alphas_bar(table, np.arange(num_steps + 1), beta_bounds=(1e-10, 0.999))
    if name == "cosine":
        return from_betas(cosine_betas(num_steps))
    raise ValueError(f"Unknown schedule {name!r}; known schedules: linear, cosine")


def sampling_schedule(
    schedule: Schedule,
    *,
    steps: int,
    stride: int = 0,
    spacing: str = "ends",
    to_clean_image: bool = True,
) -> Schedule:
    """The chain to sample with: `steps` of the trained one, or, if not 0, every stride-th.

    spacing: see `steps_by_count`. to_clean_image: end at alpha-bar_0 = 1, which is only news to the
    reference's cosine: it ends at 0.999, and its samples keep that noise.
    Raises ValueError for more steps than the chain has.
    """
    count = schedule.num_steps
    kept = steps_by_stride(count, stride) if stride else steps_by_count(count, steps, spacing)
    if to_clean_image:
        alphas_bar = np.asarray(schedule.alphas_bar, np.float64).copy()
        alphas_bar[0] = 1
        schedule = from_alphas_bar(alphas_bar, schedule.timesteps, schedule.beta_bounds)
    return respace(schedule, kept)


def _cosine(fraction: Float[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
    return np.cos((fraction + 0.008) / 1.008 * np.pi / 2) ** 2
