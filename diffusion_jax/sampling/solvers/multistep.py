"""Multistep solvers in log SNR, whose steps are weighted sums of x and the last predicted x0.

Let s be log(alpha / sigma) less its value at the beginning of a step, and h the length of the step
in s. The exact solution of the probability flow is (DPM-Solver++, arXiv:2211.01095, eq. 8)

    x_next = sigma_next / sigma x + alpha_next (integral of e^(s - h) x0(s) from 0 to h).

A solver replaces x0(s) by the polynomial through the last predictions. The integral is then a sum
of these predictions, with weights that depend on the levels alone.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from diffusion_jax.diffusion.process import per_image
from diffusion_jax.diffusion.sampling_schedule import SamplingSchedule
from diffusion_jax.diffusion.types import Denoiser, Images, Leaf, Level
from diffusion_jax.sampling.solver import Solver

Weights = Float[np.ndarray, "n"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class StepWeights:
    """The weights of a step: x_next = x_weight x + sum of x0_weights x0 + noise_weight z.

    x0_weights: of the predictions of x0, of this step and of those before,
    (num_steps, remembered + 1).
    """

    x_weight: Leaf
    x0_weights: Leaf
    noise_weight: Leaf


def multistep(remembered: int, weights: Callable[[SamplingSchedule], StepWeights]) -> Solver:
    """Returns the solver with these weights.

    remembered: the number of predictions of earlier steps that it uses, which are its state.
    weights: sampling schedule -> weights of its steps, in float64.
    """
    return Solver(
        init=lambda x: (jnp.zeros_like(x),) * remembered,
        step=multistep_step,
        prepare=lambda sampling_schedule, schedule: weights(sampling_schedule),
    )


def multistep_step(
    denoiser: Denoiser,
    now: Level,
    next: Level,
    weights: StepWeights,
    x: Images,
    noise: Images,
    remembered: tuple[Images, ...],
) -> tuple[Images, tuple[Images, ...]]:
    """x_next = x_weight x + sum of x0_weights x0 + noise_weight z."""
    predictions = (denoiser(x, now).x0, *remembered)
    x = per_image(weights.x_weight) * x + per_image(weights.noise_weight) * noise
    for place, x0 in enumerate(predictions):
        x = x + per_image(weights.x0_weights[place]) * x0
    return x, predictions[: len(remembered)]


def steps_of(sampling_schedule: SamplingSchedule, order: int) -> Iterator[tuple[float, Weights]]:
    """Yields (h, nodes) of each step: its length, and the places of the usable predictions.

    nodes: 0, where the step begins, and at most order - 1 earlier places. None lies before a step
    of infinite length, in which x was noised again or left pure noise, and none before a step
    between equal levels. A step of infinite length uses its own prediction.
    """
    lengths = np.asarray(sampling_schedule.steps.log_snr_step, np.float64)
    for step, h in enumerate(lengths):
        nodes = [0.0]
        for before in lengths[:step][::-1][: order - 1]:
            if not np.isfinite(before) or before == 0:
                break
            nodes.append(nodes[-1] - before)
        yield float(h), np.array(nodes if np.isfinite(h) else nodes[:1])


def sigma_ratios(sampling_schedule: SamplingSchedule) -> Weights:
    """Returns sigma_next / sigma of each step."""
    sigma = np.asarray(sampling_schedule.levels.sigma, np.float64)
    return sigma[1:] / np.maximum(sigma[:-1], np.finfo(np.float64).tiny)


def interpolating(nodes: Weights, integrals: Weights) -> Weights:
    """Returns the weights of the predictions at these nodes in the integral of e^(s - h) x0(s).

    x0(s) is the polynomial through the predictions, c_0 + c_1 s + ... integrals: the factors of
    c_0, c_1, ... in the integral, which are the `moments`, or a method's own.
    """
    unit = np.abs(nodes).max() or 1.0
    powers = np.vander(nodes / unit, increasing=True)
    return np.linalg.solve(powers.T, integrals / unit ** np.arange(len(nodes)))


def moments(h: float, count: int) -> Weights:
    """Returns the integrals of s^k e^(s - h) from 0 to h, for k < count.

    Integrated by parts, each follows from the one before. For short steps that loses digits, and
    the series of e^s is used.
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
