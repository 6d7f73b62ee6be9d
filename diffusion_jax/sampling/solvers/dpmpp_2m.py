"""DPM-Solver++ 2M: a second-order multistep solver with one evaluation per step."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from diffusion_jax.diffusion.process import per_image
from diffusion_jax.diffusion.sampling_schedule import SamplingSchedule
from diffusion_jax.diffusion.schedules import Schedule
from diffusion_jax.diffusion.types import Denoiser, Images, Leaf, Level
from diffusion_jax.sampling.solver import Solver


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class StepLengths:
    """Lengths in log(alpha / sigma) of a step, h, and of the step before, h_last.

    h_last is infinite where a step has no usable prediction before it.
    """

    h: Leaf
    h_last: Leaf


def dpmpp_2m() -> Solver:
    """Returns DPM-Solver++ (arXiv:2211.01095), algorithm 2. Its state is the last predicted x0."""
    return Solver(init=jnp.zeros_like, step=dpmpp_2m_step, prepare=step_lengths)


def dpmpp_2m_step(
    denoiser: Denoiser,
    now: Level,
    next: Level,
    lengths: StepLengths,
    x: Images,
    noise: Images,
    x0_last: Images,
) -> tuple[Images, Images]:
    """x_next = sigma_next / sigma x - alpha_next (e^-h - 1) (x0 + h / (2 h_last) (x0 - x0_last)).

    The first step has no x0_last, and in a step to the clean image h is infinite: both use x0
    alone.
    """
    prediction = denoiser(x, now)
    h, h_last = per_image(lengths.h), per_image(lengths.h_last)
    # The original's cosine has equal levels at its clean end, where h and h_last are 0.
    second_order = jnp.isfinite(h) & jnp.isfinite(h_last) & (h_last != 0)
    share = jnp.where(second_order, h / (2 * jnp.where(h_last == 0, 1.0, h_last)), 0.0)
    extrapolated = prediction.x0 + share * (prediction.x0 - x0_last)
    x = (
        per_image(next.sigma) / per_image(now.sigma) * x
        - per_image(next.alpha) * jnp.expm1(-h) * extrapolated
    )
    return x, prediction.x0


def step_lengths(sampling_schedule: SamplingSchedule, schedule: Schedule) -> StepLengths:
    """Returns the length of each step and of the step before it."""
    h = np.asarray(sampling_schedule.steps.log_snr_step)
    return StepLengths(h, np.append(np.inf, h[:-1]))
