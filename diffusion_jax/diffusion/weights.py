"""Weights of the loss over the noise levels.

The loss is weight(level) times the squared error of the parameterization's target. Papers weight
the error of x0 or of eps instead. A weight therefore also takes `gain`, the derivative of x0 with
respect to the target at a given x: (error of x0)^2 = gain^2 (error of the target)^2, and the error
of eps is alpha / sigma times the error of x0. SNR = alpha^2 / sigma^2.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from diffusion_jax.diffusion.checks import check_positive
from diffusion_jax.diffusion.parameterizations import Parameterization
from diffusion_jax.diffusion.types import Leaf, Level, PerExample

# (level, gain) -> the weight of the target's squared error, (batch,).
Weight = Callable[..., PerExample]


def uniform(level: Level, gain: PerExample) -> PerExample:
    """Returns 1. With eps as the target, the loss is DDPM's L_simple (eq. 14)."""
    return jnp.ones_like(gain)


def min_snr(level: Level, gain: PerExample, *, gamma: float = 5.0) -> PerExample:
    """min(SNR, gamma) of the error of x0. Min-SNR (arXiv:2303.09556), section 3.4."""
    check_positive(gamma=gamma)
    return jnp.minimum(_snr(level), gamma) * gain**2


def sigmoid(level: Level, gain: PerExample, *, bias: float = 2.0) -> PerExample:
    """sigmoid(bias - log SNR) of the error of eps. VDM++ (arXiv:2303.00848), section 5.

    Their weight also has a factor -d log SNR / dt, which makes it independent of the
    distribution of the levels; it is left out here. bias: the log-SNR below which levels count;
    Simpler Diffusion (arXiv:2410.19324) moves it with the resolution.
    """
    snr = _snr(level)
    return jax.nn.sigmoid(bias - jnp.log(snr)) * snr * gain**2


def edm(level: Level, gain: PerExample, *, sigma_data: float = 0.5) -> PerExample:
    """(sigma^2 + sigma_data^2) / (sigma sigma_data)^2 of the error of x0. EDM (arXiv:2206.00364).

    With the parameterization "edm" and the same sigma_data it is 1 for the target's error (eq. 8).
    """
    check_positive(sigma_data=sigma_data)
    return (1 / sigma_data**2 + _snr(level)) * gain**2


# The choices of `config.loss.weight`. Options are keyword arguments, and a config section.
WEIGHTS: dict[str, Weight] = {
    "uniform": uniform,
    "min_snr": min_snr,
    "sigmoid": sigmoid,
    "edm": edm,
}


def gain(parameterization: Parameterization, level: Level) -> PerExample:
    """Returns the derivative of x0 with respect to the target at fixed x, for each level."""
    shape = (*jnp.shape(level.alpha), 1, 1, 1)
    x0, _ = parameterization.solve(level, jnp.zeros(shape), jnp.ones(shape))
    return x0[:, 0, 0, 0]


def _snr(level: Level) -> Leaf:
    return jnp.square(level.alpha / level.sigma)
