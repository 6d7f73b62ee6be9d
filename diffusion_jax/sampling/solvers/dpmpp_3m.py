"""DPM-Solver++ 3M: DPM-Solver++ 2M with one more prediction remembered."""

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

# A path with fewer steps than this has its last ones of lower order, as in DPM-Solver's program.
MANY_STEPS = 15


def dpmpp_3m(*, lower_order_final: bool = True) -> Solver:
    """The multi-step method of DPM-Solver++ (arXiv:2211.01095) that remembers two predictions.

    lower_order_final: whether, in a path of fewer than 15 steps, the last step is of first order
    and the one before of second.
    """
    return multistep(2, partial(weights, lower_order_final=lower_order_final))


def weights(path: Path, *, lower_order_final: bool) -> StepWeights:
    """x_next = noise_next / noise x + signal_next (m_0 x0 + m_1 x0' + m_2 / 4 x0'').

    x0' and x0'' are the derivatives of the parabola through the last three predictions, by log SNR,
    and m_k the integral of s^k e^(s - h) over the step. Taylor's series has m_2 / 2 in place of
    m_2 / 4. The authors' program, diffusers and k-diffusion's 3m_sde with eta = 0 all have m_2 / 4,
    which leaves an error of second order, though a smaller one than 2M has.

    The first step is that of DDIM and the second that of 2M, as in diffusers; k-diffusion has m_1
    there in place of 2M's m_0 h / 2. The step to the clean image uses x0 alone.
    """
    total, of_x0 = path.num_steps, np.zeros((path.num_steps, 3))
    for step, (h, nodes) in enumerate(steps_of(path, 3)):
        if lower_order_final and total < MANY_STEPS:
            nodes = nodes[: total - step]
        row = path.waypoints.alpha[step + 1] * interpolating(nodes, integrals(h, len(nodes)))
        of_x0[step, : len(nodes)] = row
    return ratios(path), of_x0, np.zeros(total)


def integrals(h: float, order: int) -> Weights:
    """What the coefficients of the polynomial are multiplied by, of a method of this order."""
    exact = moments(h, order)
    if order == 2:
        return exact[0] * np.array([1, h / 2])
    return exact * np.array([1, 1, 1 / 2])[:order]
