"""UniPC: a multi-step predictor, and a corrector that costs no further evaluation."""

from functools import partial

import numpy as np

from diffusion_jax.diffusion.sampling_schedule import Path
from diffusion_jax.sampling.solver import Solver
from diffusion_jax.sampling.solvers.multistep import (
    StepWeights,
    Weights,
    interpolating,
    moments,
    multistep,
    ratios,
    steps_of,
)

# B(h) of the paper, times e^-h because x0 is predicted and not the noise.
VARIANTS = {"bh1": lambda h: h, "bh2": lambda h: -np.expm1(-h)}


def unipc(*, order: int = 2, variant: str = "bh2", lower_order_final: bool = False) -> Solver:
    """UniPC (arXiv:2302.04867), algorithms 1 and 2, with predictions of x0.

    order: of the predictor, 1 to 3; the corrector adds one. variant: B(h), "bh1" or "bh2".
    lower_order_final: whether a path that ends at noise has its last step of first order and the
    one before of second, as a path to the clean image always has.
    Raises ValueError for another order or variant.
    """
    if order not in (1, 2, 3):
        raise ValueError(f"order={order} must be 1, 2 or 3")
    if variant not in VARIANTS:
        raise ValueError(f"Unknown variant {variant!r}; known variants: {', '.join(VARIANTS)}")
    options = {"order": order, "variant": variant, "lower_order_final": lower_order_final}
    return multistep(order, partial(weights, **options))


def weights(path: Path, *, order: int, variant: str, lower_order_final: bool) -> StepWeights:
    """x_next = noise_next / noise (x + correction) + signal_next (prediction of the integral).

    The integral is that of e^(s - h) x0(s) over the step. Once x0 is known at the end of a step, a
    corrector integrates the polynomial that goes through it, too, and the correction is its result
    less the predictor's. Both are sums of predictions: the correction joins the next step's.
    """
    total, signal, of_x = path.num_steps, path.waypoints.alpha, ratios(path)
    lower = lower_order_final or path.waypoints.sigma[-1] == 0
    of_x0, correction = np.zeros((total, order + 1)), np.zeros(order + 1)
    for step, (h, nodes) in enumerate(steps_of(path, order)):
        if lower:
            nodes = nodes[: total - step]
        predicted = interpolating(nodes, integrals(h, len(nodes), variant))
        of_x0[step] = of_x[step] * correction
        of_x0[step, : len(nodes)] += signal[step + 1] * predicted
        correction = np.zeros(order + 1)
        if np.isfinite(h) and h != 0:
            end_first = np.append(h, nodes)
            corrected = interpolating(end_first, integrals(h, len(end_first), variant))
            difference = corrected - np.append(0.0, predicted)
            correction[: len(end_first)] = signal[step + 1] * difference
    return of_x, of_x0, np.zeros(total)


def integrals(h: float, points: int, variant: str) -> Weights:
    """What the coefficients of the polynomial through so many points are multiplied by.

    With two points the published method has 1/2 for the solution of its linear equation (section
    3.4). With more the solution is exact, and B(h) cancels.
    """
    exact = moments(h, points)
    return np.array([exact[0], VARIANTS[variant](h) * h / 2]) if points == 2 else exact
