"""Exponential moving averages of the parameters, which is what samples are drawn from.

ema <- d ema + (1 - d) params after each update. An entry of AVERAGES makes d, a function of the
number of updates made before this one.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

# The number of updates made before -> d.
Decay = Callable[[Int[Array, ""]], Float[Array, ""]]


def update(ema_params: PyTree, params: PyTree, decay: Float[Array, ""]) -> PyTree:
    """decay ema + (1 - decay) params."""
    return jax.tree.map(lambda ema, new: ema + (1 - decay) * (new - ema), ema_params, params)


def constant(decay: float, start: int = 0) -> Decay:
    """min(decay, (1 + step) / (10 + step)): short at first, so that the start is forgotten.

    start: the first so many updates copy the parameters, d = 0.
    """

    def decay_at(step: Int[Array, ""]) -> Float[Array, ""]:
        short = (1 + step.astype(jnp.float32)) / (10 + step.astype(jnp.float32))
        return jnp.where(step < start, 0.0, jnp.minimum(decay, short))

    return decay_at


def half_life(batch_size: int, *, images: float = 50e6, rampup: float = 0.05) -> Decay:
    """0.5^(B / h): what is h images old counts half. EDM (arXiv:2206.00364), appendix F.

    h = min(images, rampup n), where n = B step is the number of images seen before.
    """
    if images <= 0 or rampup <= 0:
        raise ValueError(f"images={images} and rampup={rampup} must be positive")

    def decay_at(step: Int[Array, ""]) -> Float[Array, ""]:
        seen = step.astype(jnp.float32) * batch_size
        return jnp.exp2(-batch_size / jnp.maximum(jnp.minimum(images, rampup * seen), 1e-8))

    return decay_at


def power(*, sigma_rel: float = 0.05, second_sigma_rel: float = 0.0) -> Decay:
    """(1 - 1 / t)^(gamma + 1), with t counting this update: the weight of update s is s^gamma.

    EDM2 (arXiv:2312.02696), section 3.1. sigma_rel: the width of that profile, relative to t; see
    `gamma_of`. second_sigma_rel: of one more average of the same run, from which `post_hoc` makes
    averages of other widths; 0: none.
    """
    if second_sigma_rel:
        gamma_of(second_sigma_rel)  # knows its own limits
        if second_sigma_rel == sigma_rel:
            raise ValueError(f"second_sigma_rel={second_sigma_rel} must differ from sigma_rel")
    exponent = gamma_of(sigma_rel) + 1

    def decay_at(step: Int[Array, ""]) -> Float[Array, ""]:
        return (1 - 1 / (step.astype(jnp.float32) + 1)) ** exponent

    return decay_at


def gamma_of(sigma_rel: float) -> float:
    """gamma with sigma_rel^2 = (gamma + 1) / ((gamma + 2)^2 (gamma + 3)). EDM2, eq. 126."""
    if not 0 < sigma_rel < 0.28:
        raise ValueError(f"sigma_rel={sigma_rel} must be above 0 and less than 0.28")
    q = sigma_rel**-2
    return float(np.roots([1, 7, 16 - q, 12 - q]).real.max())


# What `config.average` can be. Options are keyword arguments, and a section of the config.
AVERAGES: dict[str, Callable[..., Decay]] = {
    "constant": constant,
    "half_life": half_life,
    "power": power,
}
