"""Churn: fresh noise before a step, which then starts from a level that is as much noisier."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import partial

import jax
import numpy as np

from diffusion_jax.diffusion.checks import check_positive, check_range
from diffusion_jax.diffusion.process import per_image
from diffusion_jax.diffusion.sampling_schedule import Path
from diffusion_jax.diffusion.schedules import Schedule
from diffusion_jax.diffusion.types import Denoiser, Images, Leaf, Level, Scalar, Waypoint
from diffusion_jax.sampling.solver import Solver, memoryless


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class ChurnedWaypoint(Waypoint):
    """A waypoint with what is done to x before a step leaves it.

    raised: the noisier level that the step starts from. factor, added_std: at that level,
    x_raised = factor x + added_std z, with z standard normal.
    """

    raised: Leaf
    factor: Leaf
    added_std: Leaf


def churned(
    step: Callable[[Denoiser, Level, Waypoint, Images, Images], Images],
    *,
    s_churn: Scalar,
    s_tmin: Scalar,
    s_tmax: Scalar,
    s_noise: Scalar,
) -> Solver:
    """The solver of a deterministic step, with the churn of EDM (arXiv:2206.00364), algorithm 2.

    s_churn: how much noise is added in all; 0 for none. s_tmin, s_tmax: the range of noise / signal
    in which it is added; s_tmax = 0 stands for no upper end. s_noise: a factor of its standard
    deviation.
    Raises ValueError for a negative s_churn, s_tmin or s_tmax, for an empty range, and for an
    s_noise that is not positive.
    """
    for name, value in (("s_churn", s_churn), ("s_tmin", s_tmin), ("s_tmax", s_tmax)):
        check_range(name, value, 0)
    check_positive(s_noise=s_noise)
    plain = isinstance(s_tmin, int | float) and isinstance(s_tmax, int | float)
    if plain and 0 < s_tmax < s_tmin:
        raise ValueError(f"s_tmax={s_tmax} must be at least s_tmin={s_tmin}, or 0 for no limit")

    def churned_step(
        denoiser: Denoiser, now: ChurnedWaypoint, next: Waypoint, x: Images, fresh_noise: Images
    ) -> Images:
        x = per_image(now.factor) * x + per_image(now.added_std) * fresh_noise
        return step(denoiser, now.raised, next, x, fresh_noise)

    prepare = partial(raise_levels, s_churn=s_churn, s_tmin=s_tmin, s_tmax=s_tmax, s_noise=s_noise)
    return memoryless(churned_step, prepare=prepare, waypoint=ChurnedWaypoint)


def raise_levels(
    path: Path,
    schedule: Schedule,
    *,
    s_churn: float,
    s_tmin: float,
    s_tmax: float,
    s_noise: float,
) -> Path:
    """The path of `ChurnedWaypoint`s.

    On N steps sigma = noise / signal is raised to sigma_hat = (1 + gamma) sigma, with
    gamma = min(s_churn / N, sqrt(2) - 1) where s_tmin <= sigma <= s_tmax, and 0 elsewhere:

        x_raised = signal_hat (x / signal + s_noise sqrt(sigma_hat^2 - sigma^2) z)

    which is EDM's algorithm 2, lines 4 to 6, for any signal. Where gamma is 0, level and x stay
    exactly as they are.
    """
    levels = path.levels()
    signal, noise = (np.asarray(row, np.float64) for row in (levels.alpha, levels.sigma))
    with np.errstate(divide="ignore"):
        sigma = noise / signal
    # The ends of the range belong to it, whatever the rounding of a path's own ends.
    tolerance = 1e-9
    highest = s_tmax * (1 + tolerance) if s_tmax else np.inf
    within = (sigma >= s_tmin * (1 - tolerance)) & (sigma <= highest)
    within &= (sigma > 0) & np.isfinite(sigma)
    gamma = np.where(within, min(s_churn / path.num_steps, np.sqrt(2) - 1), 0.0)
    # A harmless sigma where the level is not read.
    raised_sigma = np.where(gamma > 0, sigma, 1.0) * (1 + gamma)
    raised = jax.tree.map(
        lambda higher, same: np.where(gamma > 0, higher, same),
        schedule.at_sigma(raised_sigma, np),
        levels,
    )
    factor = np.where(gamma > 0, raised.alpha / np.where(gamma > 0, signal, 1.0), 1.0)
    added = np.sqrt(gamma * (2 + gamma)) * np.where(gamma > 0, sigma, 0.0) * raised.alpha
    old = {field.name: getattr(path.waypoints, field.name) for field in fields(Waypoint)}
    return replace(
        path,
        waypoints=ChurnedWaypoint(**old, raised=raised, factor=factor, added_std=s_noise * added),
    )
