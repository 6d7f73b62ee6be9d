"""SDE-DPM-Solver++ 2M: DPM-Solver++ 2M with fresh noise in every step."""

from functools import partial

import numpy as np

from diffusion_jax.diffusion.checks import check_range
from diffusion_jax.diffusion.sampling_schedule import SamplingSchedule
from diffusion_jax.diffusion.types import Scalar
from diffusion_jax.sampling.solver import Solver
from diffusion_jax.sampling.solvers.multistep import (
    StepWeights,
    interpolating,
    multistep,
    sigma_ratios,
    steps_of,
)


def dpmpp_sde_2m(*, eta: Scalar = 1.0) -> Solver:
    """Returns SDE-DPM-Solver++ (arXiv:2211.01095, section 6), second order by the midpoint rule.

    eta: the amount of noise that a step replaces, as in k-diffusion: 1 is the paper's reverse SDE,
    and 0 is `dpmpp_2m`. Raises ValueError for a negative eta.
    """
    check_range("eta", eta, 0)
    return multistep(1, partial(weights, eta=eta))


def weights(sampling_schedule: SamplingSchedule, *, eta: Scalar) -> StepWeights:
    """x_next = sigma_next / sigma e^(-eta h) x + alpha_next (1 - e^(-h - eta h)) x0_mid + std z.

    x0_mid = x0 + h / (2 h_last) (x0 - x0_last), and std^2 = sigma_next^2 (1 - e^(-2 eta h)). The
    first step and the one to the clean image use x0 alone. In a step to more noise, eta is 0.
    """
    total, levels = sampling_schedule.num_steps, sampling_schedule.levels
    x_weight = sigma_ratios(sampling_schedule)
    x0_weights, noise_weight = np.zeros((total, 2)), np.zeros(total)
    for step, (h, nodes) in enumerate(steps_of(sampling_schedule, 2)):
        eta_h = eta * h if eta > 0 and h > 0 else 0.0
        integral = -np.expm1(-h - eta_h)
        integrals = np.array([integral, integral * h / 2])[: len(nodes)]
        x_weight[step] *= np.exp(-eta_h)
        row = levels.alpha[step + 1] * interpolating(nodes, integrals)
        x0_weights[step, : len(nodes)] = row
        noise_weight[step] = levels.sigma[step + 1] * np.sqrt(-np.expm1(-2 * eta_h))
    return StepWeights(x_weight, x0_weights, noise_weight)
