"""Coefficients of a step between two levels: the forward transition and the Gaussian posterior.

Computed once, on the host, in float64: differences between close levels would lose their digits in
float32.
"""

from dataclasses import dataclass

import jax
import numpy as np
from jaxtyping import Float

from diffusion_jax.diffusion.types import Leaf, Level

PerStep = Float[np.ndarray, "num_steps"]
PerLevel = Float[np.ndarray, "num_levels"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class StepCoefficients:
    """Coefficients of a step from the level `now` to the less noisy level `next`.

    Fields are scalars in sampling and (batch,) in training; a sampling schedule has (num_steps,).

    Args:
        beta: variance of the forward transition q(x_now | x_next),
            sigma_now^2 - (alpha_now / alpha_next)^2 sigma_next^2. In a step that adds noise
            (RePaint), the variance added to x_now.
        posterior_variance: beta-tilde, the variance of q(x_next | x_now, x0).
        log_posterior_variance: its logarithm. At the clean image, where the variance is 0, the
            logarithm of the step before (Improved DDPM, arXiv:2102.09672, section 3.1).
        variance_left: sigma_next^2 - beta-tilde, the variance of eps in an ancestral step.
        posterior_x0, posterior_x: weights of x0 and x_now in the mean of q(x_next | x_now, x0).
        log_snr_step: increase of log(alpha / sigma), half the log SNR. Infinite from pure noise, to
            the clean image, and in a step that adds noise.
        last: True in the last step.
    """

    beta: Leaf
    posterior_variance: Leaf
    log_posterior_variance: Leaf
    variance_left: Leaf
    posterior_x0: Leaf
    posterior_x: Leaf
    log_snr_step: Leaf
    last: Leaf


def step_coefficients(levels: Level, betas: PerStep | None = None) -> StepCoefficients:
    """Computes the coefficients of the steps from each level to the next, (num_steps,).

    Steps to more noise (inversion) follow the forward process: they have no posterior, and their
    beta is 0.

    Args:
        levels: float64, (num_steps + 1,).
        betas: of a variance-preserving chain, where they do not follow from its levels.

    Raises:
        ValueError: two neighbors are the same level, without betas.
    """
    alpha, sigma = (np.asarray(row, np.float64) for row in (levels.alpha, levels.sigma))
    with np.errstate(divide="ignore", invalid="ignore"):
        log_snr_step = np.diff(np.log(alpha) - np.log(sigma))
    if betas is None:
        check_different(alpha, sigma, log_snr_step)
    with np.errstate(divide="ignore", invalid="ignore"):
        # q(x_now | x_next) = N(ratio x_next, beta I)
        if betas is None:
            ratio = alpha[:-1] / alpha[1:]
            beta = sigma[:-1] ** 2 - (ratio * sigma[1:]) ** 2
        else:
            ratio, beta = np.sqrt(1 - betas), np.asarray(betas, np.float64)
        down = log_snr_step >= 0
        beta = np.where(down, beta, 0)
        shrink = np.where(sigma[:-1] > 0, sigma[1:] / sigma[:-1], 0) ** 2
        variance = np.where(down, shrink * beta, 0)
        posterior_x0 = np.where(down, alpha[1:] * beta / sigma[:-1] ** 2, 0)
        posterior_x = np.where(down, ratio * shrink, 0)
    return StepCoefficients(
        beta=beta,
        posterior_variance=variance,
        log_posterior_variance=log_variance(variance, beta),
        variance_left=np.maximum(sigma[1:] ** 2 - variance, 0),
        posterior_x0=posterior_x0,
        posterior_x=posterior_x,
        log_snr_step=log_snr_step,
        last=np.arange(len(beta)) == len(beta) - 1,
    )


def log_variance(variance: PerStep, beta: PerStep) -> PerStep:
    """Returns log(variance), where the variance of the step before, or else beta, replaces 0."""
    variance = variance.copy()
    for step in np.flatnonzero(variance <= 0):
        before = variance[step - 1] if step else 0
        variance[step] = before if before > 0 else beta[step]
    return np.log(np.maximum(variance, np.finfo(np.float64).tiny))


def check_different(alpha: PerLevel, sigma: PerLevel, log_snr_step: PerStep) -> None:
    """Raises ValueError if two neighboring levels are the same."""
    same = (log_snr_step == 0) | np.isnan(log_snr_step)
    if same.any():
        place = int(same.argmax())
        raise ValueError(
            f"Levels {place} and {place + 1} of {len(alpha)} are the same: alpha "
            f"{alpha[place]:.3g}, sigma {sigma[place]:.3g}. Take fewer steps or another spacing"
        )
