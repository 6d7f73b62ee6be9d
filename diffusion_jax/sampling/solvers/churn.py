"""Churn of EDM (arXiv:2206.00364): noise added before a step, which starts from a noisier level."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import jax
import numpy as np

from diffusion_jax.diffusion.checks import check_positive, check_range
from diffusion_jax.diffusion.process import per_image
from diffusion_jax.diffusion.sampling_schedule import SamplingSchedule
from diffusion_jax.diffusion.schedules import Schedule
from diffusion_jax.diffusion.types import Denoiser, Images, Leaf, Level, Scalar
from diffusion_jax.sampling.solver import Solver, memoryless


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Churn:
    """Coefficients of churn: x_raised = factor x + added_std z, with z standard normal.

    raised: the noisier level of x_raised, from which the step starts.
    """

    raised: Level
    factor: Leaf
    added_std: Leaf


def churned(step: Callable[[Denoiser, Level, Level, Images], Images]) -> Callable[..., Solver]:
    """Adds churn to a deterministic step: returns (s_churn, s_tmin, s_tmax, s_noise) -> Solver.

    EDM (arXiv:2206.00364), algorithm 2. step: (denoiser, now, next, x) -> x at the next level.
    """

    def churned_step(
        denoiser: Denoiser, now: Level, next: Level, churn: Churn, x: Images, noise: Images
    ) -> Images:
        x = per_image(churn.factor) * x + per_image(churn.added_std) * noise
        return step(denoiser, churn.raised, next, x)

    def solver(
        *,
        s_churn: Scalar = 0.0,
        s_tmin: Scalar = 0.0,
        s_tmax: Scalar | None = None,
        s_noise: Scalar = 1.0,
    ) -> Solver:
        options = {"s_churn": s_churn, "s_tmin": s_tmin, "s_tmax": s_tmax, "s_noise": s_noise}
        check_churn(**options)
        return memoryless(churned_step, prepare=partial(churn_of_steps, **options))

    solver.__doc__ = step.__doc__
    return solver


def check_churn(*, s_churn: Scalar, s_tmin: Scalar, s_tmax: Scalar | None, s_noise: Scalar) -> None:
    """Checks the options of churn.

    Args:
        s_churn: total amount of added noise; 0 for none.
        s_tmin, s_tmax: range of sigma / alpha in which noise is added; None for no upper limit.
        s_noise: factor of its standard deviation.

    Raises:
        ValueError: a negative s_churn, s_tmin or s_tmax, an empty range, or an s_noise that is not
            positive.
    """
    check_range("s_churn", s_churn, 0)
    check_range("s_tmin", s_tmin, 0)
    check_range("s_tmax", s_tmax, 0)
    check_positive(s_noise=s_noise)
    if isinstance(s_tmin, int | float) and isinstance(s_tmax, int | float) and s_tmax < s_tmin:
        raise ValueError(f"s_tmax={s_tmax} must be at least s_tmin={s_tmin}, or None for no limit")


def churn_of_steps(
    sampling_schedule: SamplingSchedule,
    schedule: Schedule,
    *,
    s_churn: float,
    s_tmin: float,
    s_tmax: float | None,
    s_noise: float,
) -> Churn:
    """Computes the churn of each step.

    In N steps sigma_t = sigma / alpha is raised to sigma_hat = (1 + gamma) sigma_t, with
    gamma = min(s_churn / N, sqrt(2) - 1) where s_tmin <= sigma_t <= s_tmax, and 0 elsewhere:

        x_raised = alpha_hat (x / alpha + s_noise sqrt(sigma_hat^2 - sigma_t^2) z)

    which is EDM's algorithm 2, lines 4 to 6, for any alpha. Where gamma is 0, level and x stay the
    same to the bit.
    """
    now, _ = sampling_schedule.pairs()
    alpha, sigma = (np.asarray(row, np.float64) for row in (now.alpha, now.sigma))
    with np.errstate(divide="ignore"):
        sigma_t = sigma / alpha
    # The range includes its ends, in spite of rounding.
    tolerance = 1e-9
    highest = np.inf if s_tmax is None else s_tmax * (1 + tolerance)
    within = (sigma_t >= s_tmin * (1 - tolerance)) & (sigma_t <= highest)
    within &= (sigma_t > 0) & np.isfinite(sigma_t)
    gamma = np.where(within, min(s_churn / sampling_schedule.num_steps, np.sqrt(2) - 1), 0.0)
    # Any finite sigma where the level is unused.
    sigma_hat = np.where(gamma > 0, sigma_t, 1.0) * (1 + gamma)
    raised = jax.tree.map(
        lambda higher, same: np.where(gamma > 0, higher, same),
        schedule.at_sigma(sigma_hat, np),
        now,
    )
    factor = np.where(gamma > 0, raised.alpha / np.where(gamma > 0, alpha, 1.0), 1.0)
    added = np.sqrt(gamma * (2 + gamma)) * np.where(gamma > 0, sigma_t, 0.0) * raised.alpha
    return Churn(raised, factor, s_noise * added)
