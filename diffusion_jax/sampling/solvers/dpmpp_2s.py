"""DPM-Solver++ 2S: a second-order singlestep solver with two evaluations per step."""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from diffusion_jax.diffusion.checks import check_range
from diffusion_jax.diffusion.process import per_image
from diffusion_jax.diffusion.sampling_schedule import SamplingSchedule
from diffusion_jax.diffusion.schedules import Schedule
from diffusion_jax.diffusion.types import Denoiser, Images, Leaf, Level, Scalar
from diffusion_jax.sampling.solver import Solver, memoryless


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Midpoint:
    """The weights of a step with a level in its middle.

    x_middle = middle_x x + middle_x0 x0, and x_next = end_x x + end_x0 x0_middle + up z, with z
    standard normal. has_middle: False in a step to the clean image, which uses x0 alone.
    """

    has_middle: Leaf
    middle: Level
    middle_x: Leaf
    middle_x0: Leaf
    end_x: Leaf
    end_x0: Leaf
    up: Leaf


def dpmpp_2s(*, eta: Scalar = 0.0) -> Solver:
    """Returns DPM-Solver++ 2S. eta: amount of fresh noise, in [0, 1]; ValueError otherwise."""
    check_range("eta", eta, 0, 1)
    return memoryless(dpmpp_2s_step, prepare=partial(midpoints, eta=eta))


def dpmpp_2s_step(
    denoiser: Denoiser, now: Level, next: Level, weights: Midpoint, x: Images, noise: Images
) -> Images:
    """x_next from x0 at the middle of the step in lambda = log(alpha / sigma), after h / 2.

        x_middle = sigma_middle / sigma x - alpha_middle (e^(-h/2) - 1) x0
        x_next   = sigma_next / sigma x - alpha_next (e^-h - 1) x0_middle

    DPM-Solver++ (arXiv:2211.01095), algorithm 1 with r = 1/2. A step to the clean image, where h is
    infinite, uses x0 alone. With eta > 0 the step leads to less noise than the next level has, and
    fresh noise up to it follows, as in `euler_ancestral`: `sample_dpmpp_2s_ancestral` of
    k-diffusion (Crowson).

    noise: z, standard normal, the shape of x.
    """
    x0 = denoiser(x, now).x0

    def at_the_middle() -> Images:
        middle = per_image(weights.middle_x) * x + per_image(weights.middle_x0) * x0
        return denoiser(middle, weights.middle).x0

    x0 = jax.lax.cond(jnp.asarray(weights.has_middle), at_the_middle, lambda: x0)
    return (
        per_image(weights.end_x) * x
        + per_image(weights.end_x0) * x0
        + per_image(weights.up) * noise
    )


def midpoints(sampling_schedule: SamplingSchedule, schedule: Schedule, *, eta: Scalar) -> Midpoint:
    """Computes the weights of each step.

    Solving lambda's definition for e^-h gives the weights of x0 above without a logarithm:
    -alpha_next (e^-h - 1) = alpha_next - sigma_next / sigma alpha, likewise for the middle.
    """
    now, next = sampling_schedule.pairs()
    alpha, sigma = (np.asarray(row, np.float64) for row in (now.alpha, now.sigma))
    alpha_next, sigma_next = (np.asarray(row, np.float64) for row in (next.alpha, next.sigma))
    up = eta * np.sqrt(np.asarray(sampling_schedule.steps.posterior_variance, np.float64))
    down = np.sqrt(np.maximum(sigma_next**2 - up**2, 0))
    has_middle = (alpha > 0) & (sigma > 0) & (down > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        sigma_t = np.sqrt(sigma / alpha * (down / alpha_next))
    middle = schedule.at_sigma(np.where(has_middle, sigma_t, 1.0), np)
    middle_x, end_x = middle.sigma / sigma, down / sigma
    return Midpoint(
        has_middle=has_middle,
        middle=middle,
        middle_x=middle_x,
        middle_x0=middle.alpha - middle_x * alpha,
        end_x=end_x,
        end_x0=alpha_next - end_x * alpha,
        up=up,
    )
