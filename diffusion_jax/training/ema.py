"""Exponential moving averages (EMA) of the parameters, with which images are sampled.

ema <- ema + w (params - ema) after each update. Entries of EMA_WEIGHTS return the weight w = 1 - d
for the decay d, as a function of the number of updates before. In float32, w keeps the digits that
d loses close to 1.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

# The number of updates made before -> w.
EMAWeight = Callable[[Int[Array, ""]], Float[Array, ""]]


def update(ema_params: PyTree, params: PyTree, weight: Float[Array, ""]) -> PyTree:
    """Returns ema + weight (params - ema)."""
    return jax.tree.map(lambda ema, new: ema + weight * (new - ema), ema_params, params)


def constant(decay: float, start: int = 0) -> EMAWeight:
    """Returns w = max(1 - decay, 9 / (10 + step)), the warm-up of TensorFlow's EMA.

    Args:
        decay: in [0, 1).
        start: number of first updates that copy the parameters (w = 1), at least 0.

    Raises:
        ValueError: for an argument out of its range.
    """
    if not 0 <= decay < 1:
        raise ValueError(f"decay={decay} must be in [0, 1)")
    if start < 0:
        raise ValueError(f"start={start} must be at least 0")

    def weight_at(step: Int[Array, ""]) -> Float[Array, ""]:
        short = 9 / (10 + step.astype(jnp.float32))
        return jnp.where(step < start, 1.0, jnp.maximum(1 - decay, short))

    return weight_at


def half_life(batch_size: int, *, images: float = 50e6, rampup: float = 0.05) -> EMAWeight:
    """Returns w = 1 - 0.5^(B / h), a half-life of h images. EDM (arXiv:2206.00364), appendix F.

    h = min(images, rampup n), where n = B step is the number of images seen before. Raises
    ValueError unless images and rampup are positive.
    """
    if images <= 0 or rampup <= 0:
        raise ValueError(f"images={images} and rampup={rampup} must be positive")

    def weight_at(step: Int[Array, ""]) -> Float[Array, ""]:
        seen = step.astype(jnp.float32) * batch_size
        half = jnp.maximum(jnp.minimum(images, rampup * seen), 1e-8)
        return -jnp.expm1(-np.log(2) * batch_size / half)

    return weight_at


def power(*, sigma_rel: float = 0.05, second_sigma_rel: float | None = None) -> EMAWeight:
    """Returns w = 1 - (1 - 1 / t)^(gamma + 1), t counting this update: update s counts s^gamma.

    EDM2 (arXiv:2312.02696), section 3.1.

    Args:
        sigma_rel: the width of that profile, relative to t; see `gamma_of`.
        second_sigma_rel: width of a second average of the same run, from which `post_hoc_ema`
            makes averages of other widths; None for no second average.

    Raises:
        ValueError: for widths out of range, or equal ones.
    """
    if second_sigma_rel is not None:
        gamma_of(second_sigma_rel)  # checks the range
        if second_sigma_rel == sigma_rel:
            raise ValueError(f"second_sigma_rel={second_sigma_rel} must differ from sigma_rel")
    exponent = gamma_of(sigma_rel) + 1

    def weight_at(step: Int[Array, ""]) -> Float[Array, ""]:
        return -jnp.expm1(exponent * jnp.log1p(-1 / (step.astype(jnp.float32) + 1)))

    return weight_at


def gamma_of(sigma_rel: float) -> float:
    """Returns gamma with sigma_rel^2 = (gamma + 1) / ((gamma + 2)^2 (gamma + 3)). EDM2, eq. 126."""
    if not 0 < sigma_rel < 0.28:
        raise ValueError(f"sigma_rel={sigma_rel} must be above 0 and less than 0.28")
    q = sigma_rel**-2
    return float(np.roots([1, 7, 16 - q, 12 - q]).real.max())


# By `config.ema.name`. Options are keyword arguments, and a section of the config.
EMA_WEIGHTS: dict[str, Callable[..., EMAWeight]] = {
    "constant": constant,
    "half_life": half_life,
    "power": power,
}
