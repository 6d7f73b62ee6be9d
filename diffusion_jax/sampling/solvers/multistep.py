"""Multi-step solvers in log SNR, whose steps are weighted sums of x and of the last x0.

With s = log(signal / noise) counted from the beginning of a step, and h its length, the
probability flow is, exactly (DPM-Solver++, arXiv:2211.01095, eq. 8),

    x_next = noise_next / noise x + signal_next (integral of e^(s - h) x0(s) from 0 to h).

A solver puts a polynomial in place of x0(s), through what was predicted in the last steps. Then the
integral is a sum of these predictions, with weights that depend on the path alone.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from diffusion_jax.diffusion.process import per_image
from diffusion_jax.diffusion.sampling_schedule import Path
from diffusion_jax.diffusion.schedules import Schedule
from diffusion_jax.diffusion.types import Denoiser, Images, Leaf, Waypoint
from diffusion_jax.sampling.solver import Solver

Weights = Float[np.ndarray, "n"]
# Of x, of the predictions and of fresh noise, each with a row for every step.
StepWeights = tuple[np.ndarray, np.ndarray, np.ndarray]
ADDED = ("x_weight", "x0_weights", "fresh_weight")


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class MultistepWaypoint(Waypoint):
    """A waypoint with the weights of the step that arrives here.

    x_weight, fresh_weight: of x and of fresh noise. x0_weights: of the predictions of x0, of this
    step and of those before, (num_steps + 1, remembered + 1).
    """

    x_weight: Leaf
    x0_weights: Leaf
    fresh_weight: Leaf


def multistep(remembered: int, weights: Callable[[Path], StepWeights]) -> Solver:
    """The solver with these weights.

    remembered: how many predictions of earlier steps it uses. weights: path -> those of its steps,
    computed in float64.
    """

    def prepare(path: Path, schedule: Schedule) -> Path:
        known = {field.name: getattr(path.waypoints, field.name) for field in fields(Waypoint)}
        # No step arrives at the first waypoint.
        rows = (np.concatenate([np.zeros_like(row[:1]), row]) for row in weights(path))
        return replace(path, waypoints=MultistepWaypoint(**known, **dict(zip(ADDED, rows))))

    return Solver(
        init=lambda x: (jnp.zeros_like(x),) * remembered,
        step=multistep_step,
        prepare=prepare,
        waypoint=MultistepWaypoint,
    )


def multistep_step(
    denoiser: Denoiser,
    now: Waypoint,
    next: MultistepWaypoint,
    x: Images,
    fresh_noise: Images,
    history: tuple[Images, ...],
) -> tuple[Images, tuple[Images, ...]]:
    """x_next = x_weight x + sum of x0_weights x0 + fresh_weight z."""
    known = (denoiser(x, now).x0, *history)
    x = per_image(next.x_weight) * x + per_image(next.fresh_weight) * fresh_noise
    for place, x0 in enumerate(known):
        x = x + per_image(next.x0_weights[place]) * x0
    return x, known[: len(history)]


def steps_of(path: Path, order: int) -> Iterator[tuple[float, Weights]]:
    """(h, nodes) of each step: its length, and where the predictions were made that it can use.

    nodes: 0, where the step begins, and at most order - 1 earlier places. None lies before an
    arrival of infinite length, at which the path begins, or x was noised again, or left pure noise;
    and none before a step that leads nowhere. A step of infinite length uses its own prediction.
    """
    lengths = np.asarray(path.waypoints.log_snr_step, np.float64)
    for step in range(path.num_steps):
        nodes = [0.0]
        for arrived in lengths[step::-1][: order - 1]:
            if not np.isfinite(arrived) or arrived == 0:
                break
            nodes.append(nodes[-1] - arrived)
        h = float(lengths[step + 1])
        yield h, np.array(nodes if np.isfinite(h) else nodes[:1])


def ratios(path: Path) -> Weights:
    """noise_next / noise of each step."""
    noise = np.asarray(path.waypoints.sigma, np.float64)
    return noise[1:] / np.maximum(noise[:-1], np.finfo(np.float64).tiny)


def interpolating(nodes: Weights, integrals: Weights) -> Weights:
    """The weights of the predictions at these nodes in the integral of e^(s - h) x0(s).

    x0(s) is the polynomial through the predictions, c_0 + c_1 s + ..., and integrals what c_0,
    c_1, ... are multiplied by: `moments`, or what a method has in their place.
    """
    unit = np.abs(nodes).max() or 1.0
    powers = np.vander(nodes / unit, increasing=True)
    return np.linalg.solve(powers.T, integrals / unit ** np.arange(len(nodes)))


def moments(h: float, count: int) -> Weights:
    """The integrals of s^k e^(s - h) from 0 to h, for k < count.

    By parts each follows from the one before. For short steps that would lose digits, and the
    series of e^s is used.
    """
    if abs(h) < 1:
        n = np.arange(24)
        factorials = np.cumprod(np.maximum(n, 1.0))
        power = np.arange(1, count + 1)[:, None] + n
        return np.exp(-h) * np.sum(h**power / (factorials * power), axis=1)
    found = [-np.expm1(-h)]
    for k in range(1, count):
        found.append(h**k - k * found[-1])
    return np.array(found)
