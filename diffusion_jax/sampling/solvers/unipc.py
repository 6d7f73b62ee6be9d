"""UniPC: a multistep predictor, and a corrector without additional evaluations."""

from functools import partial

import numpy as np

from diffusion_jax.diffusion.sampling_schedule import SamplingSchedule
from diffusion_jax.sampling.solver import Solver
from diffusion_jax.sampling.solvers.multistep import (
    StepWeights,
    Weights,
    interpolating,
    moments,
    multistep,
    sigma_ratios,
    steps_of,
)

# B(h) of the paper, times e^-h because x0 is predicted and not the noise.
VARIANTS = {"bh1": lambda h: h, "bh2": lambda h: -np.expm1(-h)}


def unipc(*, order: int = 2, variant: str = "bh2", lower_order_final: bool = False) -> Solver:
    """Returns UniPC (arXiv:2302.04867), algorithms 1 and 2, with predictions of x0.

    order: of the predictor, 1 to 3; the corrector adds one. variant: B(h), "bh1" or "bh2".
    lower_order_final: True if the last step is of first order and the one before of second, also
    where sampling ends at noise; at the clean image they always are.
    Raises ValueError for another order or variant.
    """
    if order not in (1, 2, 3):
        raise ValueError(f"order={order} must be 1, 2 or 3")
    if variant not in VARIANTS:
        raise ValueError(f"Unknown variant {variant!r}; known variants: {', '.join(VARIANTS)}")
    options = {"order": order, "variant": variant, "lower_order_final": lower_order_final}
    return multistep(order, partial(weights, **options))


def weights(
    sampling_schedule: SamplingSchedule, *, order: int, variant: str, lower_order_final: bool
) -> StepWeights:
    """x_next = sigma_next / sigma (x + correction) + alpha_next (prediction of the integral).

    The integral is the one of e^(s - h) x0(s) over the step. Once x0 is known at the end of a step,
    a corrector integrates the polynomial that goes through it, too, and the correction is its
    result less the predictor's. Both are sums of predictions: the correction joins the next step's.
    """
    total, levels = sampling_schedule.num_steps, sampling_schedule.levels
    x_weight = sigma_ratios(sampling_schedule)
    lower = lower_order_final or levels.sigma[-1] == 0
    x0_weights, correction = np.zeros((total, order + 1)), np.zeros(order + 1)
    for step, (h, nodes) in enumerate(steps_of(sampling_schedule, order)):
        if lower:
            nodes = nodes[: total - step]
        predicted = interpolating(nodes, integrals(h, len(nodes), variant))
        x0_weights[step] = x_weight[step] * correction
        x0_weights[step, : len(nodes)] += levels.alpha[step + 1] * predicted
        correction = np.zeros(order + 1)
        if np.isfinite(h) and h != 0:
            end_first = np.append(h, nodes)
            corrected = interpolating(end_first, integrals(h, len(end_first), variant))
            difference = corrected - np.append(0.0, predicted)
            correction[: len(end_first)] = levels.alpha[step + 1] * difference
    return StepWeights(x_weight, x0_weights, np.zeros(total))


def integrals(h: float, points: int, variant: str) -> Weights:
    """Returns the factors of the coefficients of the polynomial through this number of points.

    With two points the published method has 1/2 for the solution of its linear equation (section
    3.4). With more the solution is exact, and B(h) cancels.
    """
    exact = moments(h, points)
    return np.array([exact[0], VARIANTS[variant](h) * h / 2]) if points == 2 else exact
