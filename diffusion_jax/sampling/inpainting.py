"""Inpainting: known pixels stay, and the others are sampled to fit them."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

from diffusion_jax.diffusion.checks import check_count
from diffusion_jax.diffusion.process import q_sample
from diffusion_jax.diffusion.sampling_schedule import SamplingSchedule
from diffusion_jax.diffusion.types import Denoiser, Images, Level
from diffusion_jax.sampling.solver import Coefficients, Solver, State


def inpainting(solver: Solver, known: Images, mask: Images) -> Solver:
    """Returns the solver that replaces the known pixels after every step.

    known: clean images. mask: (batch, height, width, 1), 1 for pixels to sample, 0 for known ones.

    At each level they are replaced by q(x | known), with fresh noise; at the clean image they are
    exact. Score-based models (arXiv:2011.13456), appendix I.2; RePaint
    (arXiv:2201.09865), eq. 8, and on a `resampled` schedule its algorithm 1.
    """

    def step(
        denoiser: Denoiser,
        now: Level,
        next: Level,
        coefficients: Coefficients,
        x: Images,
        noise: Images,
        state: State,
    ) -> tuple[Images, State]:
        x, state = solver.step(denoiser, now, next, coefficients, x, noise, state)
        # No pixel uses the noise twice: where it is used here, the result of the step is not.
        return jnp.where(mask > 0, x, q_sample(next, known, noise)), state

    return replace(solver, step=step)


def resampled(
    sampling_schedule: SamplingSchedule, *, jump: int = 10, times: int = 10
) -> SamplingSchedule:
    """Returns the schedule that takes each stretch of `jump` steps `times` times.

    Between two passes the forward process adds noise in one step, so that the sampled pixels can
    adapt to the known ones. RePaint (arXiv:2201.09865), algorithm 1 and appendix B: noise is added
    at 1 + k jump steps before the clean image.

    The schedule is one of N steps to the clean image. The result has
    N + (times - 1) (jump + 1) k steps, with k the number of stretches, floor((N - 1) / jump).
    Raises ValueError for a jump outside 1 .. N - 1, and for times below 1.
    """
    total = sampling_schedule.num_steps
    check_count("resample", times)
    check_count("jump", jump)
    if not jump < max(total, 2):
        raise ValueError(f"jump={jump} is not in 1..{total - 1}, for sampling in {total} steps")
    left = {total - 1 - jump * k: times - 1 for k in range((total - 1) // jump)}
    visited = [0]
    while visited[-1] < total:
        visited.append(visited[-1] + 1)
        if left.get(visited[-1]):
            left[visited[-1]] -= 1
            visited.append(visited[-1] - jump)
    places = np.array(visited)
    levels = jax.tree.map(lambda row: np.asarray(row)[places], sampling_schedule.levels)
    steps = jax.tree.map(lambda row: np.asarray(row)[places[:-1]], sampling_schedule.steps)
    noised = np.diff(places) < 0
    climb = np.flatnonzero(noised)
    ratio = levels.alpha[climb + 1] / levels.alpha[climb]
    steps.beta[climb] = levels.sigma[climb + 1] ** 2 - (ratio * levels.sigma[climb]) ** 2
    steps.log_snr_step[climb] = np.inf  # predictions before it are of another x
    return SamplingSchedule(levels, steps, noised)
