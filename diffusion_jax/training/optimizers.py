"""AdamW with warm-up, learning-rate decay and gradient clipping."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, ArrayLike, Float, PyTree

DECAYS = ("constant", "cosine", "linear", "inverse_sqrt")
# Without a number, warm-up is total_steps // 20.
WARMUP_DIVISOR = 20


def learning_rate_schedule(
    learning_rate: float,
    total_steps: int,
    warmup_steps: int | None = None,
    decay: str = "constant",
    decay_steps: int | None = None,
) -> optax.Schedule:
    """Returns the learning rate as a function of the number of updates made before.

    It rises linearly from 0 over the warm-up, and then stays constant or falls.

    Args:
        learning_rate: the largest, above 0.
        total_steps: updates of the whole run.
        warmup_steps: 0 starts at once; None is a twentieth of total_steps.
        decay: one of DECAYS. "cosine" and "linear" reach 0 at decay_steps; "inverse_sqrt" is
            learning_rate sqrt(decay_steps / step) from decay_steps on (EDM2, arXiv:2312.02696,
            eq. 67).
        decay_steps: None is total_steps.

    Raises:
        ValueError: for an argument out of its range.
    """
    if not 0 < np.float32(learning_rate) < np.inf:
        raise ValueError(f"learning_rate={learning_rate} must be positive, and a float32")
    if decay not in DECAYS:
        raise ValueError(f"decay={decay} must be one of {', '.join(DECAYS)}")
    if decay_steps is not None and decay == "constant":
        raise ValueError(
            f"decay_steps={decay_steps} has no effect with decay=constant; set decay_steps=None, "
            "or another decay"
        )
    if decay == "inverse_sqrt" and decay_steps is None:
        raise ValueError("decay=inverse_sqrt needs decay_steps, where the decay begins")
    if warmup_steps is None:
        warmup_steps = total_steps // WARMUP_DIVISOR
    if decay_steps is None:
        decay_steps = total_steps
    if warmup_steps < 0:
        raise ValueError(f"warmup_steps={warmup_steps} must be at least 0")
    if decay != "constant" and not warmup_steps < decay_steps:
        raise ValueError(
            f"warmup_steps={warmup_steps} must be less than decay_steps={decay_steps}, which is "
            "the number of steps unless given; set warmup_steps=0, for example"
        )
    if decay == "constant" and not warmup_steps:
        return optax.constant_schedule(learning_rate)
    if decay == "constant":
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


def learning_rates(schedule: optax.Schedule, updates: int) -> Float[np.ndarray, "count"]:
    """Returns the rates of a run's first updates, at least one, on the host."""
    return np.asarray(jax.vmap(schedule)(np.arange(max(1, updates))), np.float64)


def count_updates(opt_state: PyTree) -> int:
    """Returns the number of updates that an optimizer has made, which skipped steps are not."""
    return int(optax.tree.get_all_with_path(opt_state, "count")[0][1])


def adamw(
    learning_rate: float,
    total_steps: int,
    warmup_steps: int | None,
    decay: str,
    decay_steps: int | None,
    b1: float,
    b2: float,
    eps: float,
    weight_decay: float,
    clip_norm: float | None,
) -> optax.GradientTransformation:
    """Returns AdamW (arXiv:1711.05101), with weight decay on all parameters.

    Args:
        learning_rate, total_steps, warmup_steps, decay, decay_steps: see
            `learning_rate_schedule`.
        b1, b2: decays of the moments, in [0, 1).
        eps: added to the root of the second moment, above 0.
        weight_decay: at least 0; with 0 this is Adam.
        clip_norm: the largest global norm of the gradient; None does not clip. `update` accepts
            that norm as `norm`, where it is given a part of the gradient alone.

    Raises:
        ValueError: for an argument out of its range.
    """
    schedule = learning_rate_schedule(learning_rate, total_steps, warmup_steps, decay, decay_steps)
    for name, value in (("b1", b1), ("b2", b2)):
        if not 0 <= value < 1:
            raise ValueError(f"{name}={value} must be in [0, 1)")
    if not 0 < np.float32(eps) < np.inf:
        raise ValueError(f"eps={eps} must be positive, and a float32")
    if weight_decay < 0:
        raise ValueError(f"weight_decay={weight_decay} must be at least 0")
    if clip_norm is not None and clip_norm <= 0:
        raise ValueError(f"clip_norm={clip_norm} must be positive, or None for no clipping")
    optimizer = optax.adamw(schedule, b1, b2, eps, weight_decay=weight_decay)
    # The same structure of the state either way, so that a resumed run can change it.
    clip = optax.identity() if clip_norm is None else _clip(clip_norm)
    return optax.chain(clip, optimizer)


def _clip(largest: float) -> optax.GradientTransformationExtraArgs:
    """Returns `optax.clip_by_global_norm`, with the norm as an optional argument."""

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
