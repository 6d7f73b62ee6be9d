"""SDE-DPM-Solver++ 2M: DPM-Solver++ 2M with fresh noise in every step."""

from functools import partial

import numpy as np

from diffusion_jax.diffusion.checks import check_range
from diffusion_jax.diffusion.sampling_schedule import Path
from diffusion_jax.diffusion.types import Scalar
from diffusion_jax.sampling.solver import Solver
from diffusion_jax.sampling.solvers.multistep import (
    StepWeights,
    interpolating,
    multistep,
    ratios,
    steps_of,
)


def dpmpp_sde_2m(*, eta: Scalar = 1.0) -> Solver:
    """SDE-DPM-Solver++ (arXiv:2211.01095, section 6), of second order by the midpoint rule.

    eta: how much noise a step replaces, as in k-diffusion: 1 is the paper's reverse SDE, and 0 is
    `dpmpp_2m`. Raises ValueError for a negative eta.
    """
    check_range("eta", eta, 0)
    return multistep(1, partial(weights, eta=eta))


def weights(path: Path, *, eta: float) -> StepWeights:
    """x_next = noise_next / noise e^(-eta h) x + signal_next (1 - e^(-h - eta h)) x0_mid + sigma z.

    x0_mid = x0 + h / (2 h_last) (x0 - x0_last), and sigma^2 = noise_next^2 (1 - e^(-2 eta h)). The
    first step and the one to the clean image use x0 alone. Where a path climbs, eta is 0.
    """
    w, of_x = path.waypoints, ratios(path)
    of_x0, of_fresh = np.zeros((path.num_steps, 2)), np.zeros(path.num_steps)
    for step, (h, nodes) in enumerate(steps_of(path, 2)):
        eta_h = eta * h if eta > 0 and h > 0 else 0.0
        integral = -np.expm1(-h - eta_h)
        integrals = np.array([integral, integral * h / 2])[: len(nodes)]
        of_x[step] *= np.exp(-eta_h)
        of_x0[step, : len(nodes)] = w.alpha[step + 1] * interpolating(nodes, integrals)
        of_fresh[step] = w.sigma[step + 1] * np.sqrt(-np.expm1(-2 * eta_h))
    return of_x, of_x0, of_fresh
