"""Inpainting: pixels that are known stay, and the others are drawn to fit them."""

from dataclasses import fields, replace

import jax.numpy as jnp
import numpy as np

from diffusion_jax.diffusion.process import q_sample
from diffusion_jax.diffusion.sampling_schedule import Path
from diffusion_jax.diffusion.types import Denoiser, Images, Waypoint
from diffusion_jax.sampling.solver import History, Solver


def inpainting(solver: Solver, known: Images, mask: Images) -> Solver:
    """The solver, with the known pixels put in their place after every step.

    known: clean images. mask: (batch, height, width, 1), 1 for pixels to keep, 0 for pixels to
    draw. At each level the known pixels are the known images with fresh noise, so that they are
    exact at the clean image. Score-based models (arXiv:2011.13456), appendix I.2; RePaint
    (arXiv:2201.09865), eq. 8, and with a path of `resampled` its algorithm 1.
    """

    def step(
        denoiser: Denoiser,
        now: Waypoint,
        next: Waypoint,
        x: Images,
        fresh_noise: Images,
        history: History,
    ) -> tuple[Images, History]:
        x, history = solver.step(denoiser, now, next, x, fresh_noise, history)
        # Where a pixel's noise is used here, what the step has made of it is not.
        return jnp.where(mask > 0, q_sample(next, known, fresh_noise), x), history

    return replace(solver, step=step)


def resampled(path: Path, *, jump: int = 10, times: int = 10) -> Path:
    """The path on which each stretch of `jump` steps is walked `times` times.

    Between two walks x is noised again, by the forward process, in one step, so that the drawn
    pixels come to fit the known ones. RePaint (arXiv:2201.09865), algorithm 1 and appendix B: the
    way back leads from one step before the clean image, or from 1 + k jump steps before it.

    path: to the clean image, of N steps. The result has N + (times - 1) (jump + 1) k steps, with k
    the number of stretches, the whole part of (N - 1) / jump.
    Raises ValueError for a jump outside 1 .. N - 1, and for times below 1.
    """
    total = path.num_steps
    if not 1 <= jump < max(total, 2):
        raise ValueError(f"jump={jump} is not in 1..{total - 1}, for a path of {total} steps")
    if times < 1:
        raise ValueError(f"times={times} must be at least 1")
    left = {total - 1 - jump * k: times - 1 for k in range((total - 1) // jump)}
    visited = [0]
    while visited[-1] < total:
        visited.append(visited[-1] + 1)
        if left.get(visited[-1]):
            left[visited[-1]] -= 1
            visited.append(visited[-1] - jump)
    places = np.array(visited)
    waypoints = {
        field.name: np.array(getattr(path.waypoints, field.name))[places]
        for field in fields(Waypoint)
    }
    noised = np.diff(places) < 0
    signal, noise = waypoints["alpha"], waypoints["sigma"]
    climb = np.flatnonzero(noised) + 1  # where such a step arrives
    ratio = signal[climb] / signal[climb - 1]
    waypoints["beta"][climb] = noise[climb] ** 2 - (ratio * noise[climb - 1]) ** 2
    waypoints["log_snr_step"][climb] = np.inf  # what a solver remembers does not lead here
    return Path(Waypoint(**waypoints), noised)
