"""AdamW, with optional warm-up, decay of the learning rate and clipping of the gradient."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, ArrayLike, Float, PyTree

DECAYS = ("cosine", "linear", "inverse_sqrt")


def learning_rate_schedule(
    learning_rate: float, warmup_steps: int, decay_steps: int, decay: str = "cosine"
) -> optax.Schedule:
    """Linear from 0 over warmup_steps, then constant, or falling.

    warmup_steps = 0 starts at once; decay_steps = 0 stays constant. decay: "cosine" and "linear"
    are 0 at decay_steps. "inverse_sqrt" is learning_rate sqrt(decay_steps / step) from decay_steps
    on (EDM2, arXiv:2312.02696, eq. 67).
    """
    if not decay_steps and not warmup_steps:
        return optax.constant_schedule(learning_rate)
    if not decay_steps:
        return optax.linear_schedule(0.0, learning_rate, warmup_steps)
    if decay == "cosine" and not warmup_steps:
        return optax.cosine_decay_schedule(learning_rate, decay_steps)
    if decay == "cosine":
        return optax.warmup_cosine_decay_schedule(0.0, learning_rate, warmup_steps, decay_steps)

    def schedule(step: ArrayLike) -> Float[Array, ""]:
        step = jnp.asarray(step, jnp.float32)
        warm = jnp.minimum(step / warmup_steps, 1.0) if warmup_steps else 1.0
        if decay == "inverse_sqrt":
            return learning_rate * warm / jnp.sqrt(jnp.maximum(step / decay_steps, 1.0))
        left = jnp.clip((decay_steps - step) / (decay_steps - warmup_steps), 0.0, 1.0)
        return learning_rate * jnp.minimum(warm, left)

    return schedule


def adamw(
    learning_rate: float,
    warmup_steps: int,
    decay_steps: int,
    b1: float,
    b2: float,
    eps: float,
    weight_decay: float,
    clip_norm: float,
    decay: str = "cosine",
) -> optax.GradientTransformation:
    """AdamW (arXiv:1711.05101), with weight decay on all parameters; without it this is Adam.

    warmup_steps, decay_steps, decay: see `learning_rate_schedule`. clip_norm: the largest global
    norm of the gradient; 0 does not clip. `update` can be told that norm, where it sees a part of
    the gradient alone.
    """
    schedule = learning_rate_schedule(learning_rate, warmup_steps, decay_steps, decay)
    optimizer = optax.adamw(schedule, b1, b2, eps, weight_decay=weight_decay)
    # One structure of the state either way, so that a run can change its mind.
    clip = _clip(clip_norm) if clip_norm else optax.identity()
    return optax.chain(clip, optimizer)


def _clip(largest: float) -> optax.GradientTransformationExtraArgs:
    """`optax.clip_by_global_norm`, which may be told the norm."""

    def update(
        updates: PyTree,
        state: optax.EmptyState,
        params: PyTree = None,
        *,
        norm: Array | None = None,
        **_: Any,
    ) -> tuple[PyTree, optax.EmptyState]:
        size = optax.tree.norm(updates) if norm is None else norm
        clipped = jax.tree.map(
            lambda x: jnp.where(size < largest, x, (x / size) * largest), updates
        )
        return clipped, state

    return optax.GradientTransformationExtraArgs(lambda _: optax.EmptyState(), update)
