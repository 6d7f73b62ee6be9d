"""The exponential moving average of the parameters, which is what samples are drawn from."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree


def decay_at(step: Int[Array, ""], decay: float) -> Float[Array, ""]:
    """min(decay, (1 + step) / (10 + step)): short at first, so that the start is forgotten."""
    step = step.astype(jnp.float32)
    return jnp.minimum(decay, (1 + step) / (10 + step))


def update(
    ema_params: PyTree, params: PyTree, step: Int[Array, ""], decay: float, start: int = 0
) -> PyTree:
    """ema <- d ema + (1 - d) params, with d = `decay_at`(step). step: updates made so far.

    start: the first so many updates copy the parameters, d = 0.
    """
    d = jnp.where(step < start, 0.0, decay_at(step, decay))
    return jax.tree.map(lambda ema, new: ema + (1 - d) * (new - ema), ema_params, params)
