"""DPM-Solver++ 3M: DPM-Solver++ 2M with one more prediction remembered."""

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

# With fewer steps than this the last ones are of lower order, as in DPM-Solver's program.
MANY_STEPS = 15


def dpmpp_3m(*, lower_order_final: bool = True) -> Solver:
    """Returns the multistep DPM-Solver++ (arXiv:2211.01095) with two remembered predictions.

    lower_order_final: True if, in fewer than 15 steps, the last is of first order and the one
    before of second.
    """
    return multistep(2, partial(weights, lower_order_final=lower_order_final))


def weights(sampling_schedule: SamplingSchedule, *, lower_order_final: bool) -> StepWeights:
    """x_next = sigma_next / sigma x + alpha_next (m_0 x0 + m_1 x0' + m_2 / 4 x0'').

    x0' and x0'' are the derivatives of the parabola through the last three predictions, by log SNR,
    and m_k the integral of s^k e^(s - h) over the step. Taylor's series has m_2 / 2 in place of
    m_2 / 4. The authors' program, diffusers and k-diffusion's 3m_sde with eta = 0 all have m_2 / 4,
    which leaves an error of second order, though a smaller one than 2M has.

    The first step is DDIM's and the second 2M's, as in diffusers; k-diffusion's second step has m_1
    in place of 2M's m_0 h / 2. The step to the clean image uses x0 alone.
    """
    total, alpha = sampling_schedule.num_steps, sampling_schedule.levels.alpha
    x0_weights = np.zeros((total, 3))
    for step, (h, nodes) in enumerate(steps_of(sampling_schedule, 3)):
        if lower_order_final and total < MANY_STEPS:
            nodes = nodes[: total - step]
        row = alpha[step + 1] * interpolating(nodes, integrals(h, len(nodes)))
        x0_weights[step, : len(nodes)] = row
    return StepWeights(sigma_ratios(sampling_schedule), x0_weights, np.zeros(total))


def integrals(h: float, order: int) -> Weights:
    """Returns the factors of the polynomial's coefficients, of a method of this order."""
    exact = moments(h, order)
    if order == 2:
        return exact[0] * np.array([1, h / 2])
    return exact * np.array([1, 1, 1 / 2])[:order]
