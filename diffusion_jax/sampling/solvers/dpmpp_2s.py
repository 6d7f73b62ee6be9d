"""DPM-Solver++ 2S: second order with two evaluations per step and no memory."""

from dataclasses import dataclass, fields, replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from diffusion_jax.diffusion.checks import check_range
from diffusion_jax.diffusion.process import per_image
from diffusion_jax.diffusion.sampling_schedule import Path
from diffusion_jax.diffusion.schedules import Schedule
from diffusion_jax.diffusion.types import Denoiser, Images, Leaf, Scalar, Waypoint
from diffusion_jax.sampling.solver import Solver, memoryless


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class MidpointWaypoint(Waypoint):
    """A waypoint with the coefficients of the step that arrives here.

    has_middle: whether there is a level between, which a step to the clean image has not.
    middle: that level. x_middle = middle_x x + middle_x0 x0 there, and
    x_here = end_x x + end_x0 x0_middle + up z, with z standard normal.
    """

    has_middle: Leaf
    middle: Leaf
    middle_x: Leaf
    middle_x0: Leaf
    end_x: Leaf
    end_x0: Leaf
    up: Leaf


def dpmpp_2s(*, eta: Scalar = 0.0) -> Solver:
    """eta: how much of the noise is fresh, 0 for none. Raises ValueError for eta outside [0, 1]."""
    check_range("eta", eta, 0, 1)
    prepare = partial(midpoints, eta=eta)
    return memoryless(dpmpp_2s_step, prepare=prepare, waypoint=MidpointWaypoint)


def dpmpp_2s_step(
    denoiser: Denoiser, now: Waypoint, next: MidpointWaypoint, x: Images, fresh_noise: Images
) -> Images:
    """x_next from x0 at the middle of the step in lambda = log(signal / noise), after h / 2.

        x_middle = noise_middle / noise x - signal_middle (e^(-h/2) - 1) x0
        x_next   = noise_next / noise x - signal_next (e^-h - 1) x0_middle

    DPM-Solver++ (arXiv:2211.01095), algorithm 1 with r = 1/2. A step to the clean image, where h is
    infinite, uses x0 alone. With eta > 0 the step leads to less noise than that of the next level,
    and fresh noise up to it follows, as in `euler_ancestral`: `sample_dpmpp_2s_ancestral` of
    k-diffusion (Crowson).

    fresh_noise: z, standard normal, the shape of x.
    """
    x0 = denoiser(x, now).x0

    def at_the_middle() -> Images:
        middle = per_image(next.middle_x) * x + per_image(next.middle_x0) * x0
        return denoiser(middle, next.middle).x0

    x0 = jax.lax.cond(jnp.asarray(next.has_middle), at_the_middle, lambda: x0)
    return (
        per_image(next.end_x) * x + per_image(next.end_x0) * x0 + per_image(next.up) * fresh_noise
    )


def midpoints(path: Path, schedule: Schedule, *, eta: float) -> Path:
    """The path of `MidpointWaypoint`s.

    Solving lambda's definition for e^-h gives the weights of x0 above without a logarithm:
    -signal_next (e^-h - 1) = signal_next - noise_next / noise signal, likewise for the middle.
    """
    old = {f.name: np.asarray(getattr(path.waypoints, f.name)) for f in fields(Waypoint)}
    signal, noise, variance = (
        old[name].astype(np.float64) for name in ("alpha", "sigma", "posterior_variance")
    )
    up = eta * np.sqrt(variance[1:])
    down = np.sqrt(np.maximum(noise[1:] ** 2 - up**2, 0))
    has_middle = (signal[:-1] > 0) & (noise[:-1] > 0) & (down > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        sigma = np.sqrt(noise[:-1] / signal[:-1] * (down / signal[1:]))
    middle = schedule.at_sigma(np.where(has_middle, sigma, 1.0), np)
    middle_x, end_x = middle.sigma / noise[:-1], down / noise[:-1]
    step = {
        "has_middle": has_middle,
        "middle": middle,
        "middle_x": middle_x,
        "middle_x0": middle.alpha - middle_x * signal[:-1],
        "end_x": end_x,
        "end_x0": signal[1:] - end_x * signal[:-1],
        "up": up,
    }
    # No step arrives at the first level.
    step = jax.tree.map(lambda row: np.concatenate([row[:1], row]), step)
    return replace(path, waypoints=MidpointWaypoint(**old, **step))
