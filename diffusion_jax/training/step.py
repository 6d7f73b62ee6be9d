"""One training step as a pure function: (state, batch) -> (state, metrics)."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int, Key, PyTree

from diffusion_jax import parallel
from diffusion_jax.diffusion import keys
from diffusion_jax.diffusion.timestep_samplers import TimestepSampler
from diffusion_jax.training import ema, metrics, nan_guard
from diffusion_jax.training.metrics import Metrics
from diffusion_jax.training.objectives import Objective
from diffusion_jax.training.sharding import Sharding
from diffusion_jax.training.state import TrainState, apply_gradients


def make_train_step(
    objective: Objective,
    optimizer: optax.GradientTransformation,
    timestep_sampler: TimestepSampler,
    *,
    seed: int,
    micro_batches: int,
    ema_weight: ema.EMAWeight,
    second_ema_weight: ema.EMAWeight | None,
    constrain: Callable[[PyTree], PyTree],
    sharding: Sharding,
) -> Callable[[TrainState, PyTree], tuple[TrainState, Metrics]]:
    """Returns the training step that `parallel.data_parallel` runs on every device.

    Each device gets its rows of the batch, {"image": uint8, "label": int32}. A step with a loss or
    a gradient norm that is not finite is skipped: only the step counter changes, and the metric
    "skipped" is 1.

    Args:
        objective: the losses of a batch.
        timestep_sampler: its `update` gets the losses of the global batch.
        seed: seed of the run.
        micro_batches: number of equal parts of a device's rows, computed one after the other. The
            update uses the mean of their gradients.
        ema_weight, second_ema_weight, constrain: see `apply_gradients`.
        sharding: sharding of the train state.
    """
    root = keys.derive(seed, "train")

    def losses(
        params: PyTree,
        batch: PyTree,
        examples: Int[Array, "rows"],
        key: Key[Array, ""],
        history: PyTree,
    ) -> tuple[Array, tuple[dict[str, Array], PyTree]]:
        parts, noisy = objective(params, batch, examples, key, history)
        observed = {"position": noisy.position, "loss": parts[timestep_sampler.part]}
        # Importance-weighted means estimate means under the schedule's own distribution.
        parts = {name: noisy.importance * values for name, values in parts.items()}
        return jnp.mean(parts["loss"]), (parts, observed)

    def step(state: TrainState, batch: PyTree) -> tuple[TrainState, Metrics]:
        examples = parallel.global_rows(batch["label"].shape[0])
        key = jax.random.fold_in(root, state.step)
        gradients, (parts, observed) = accumulate(
            lambda part: jax.grad(losses, has_aux=True)(state.params, *part, key, state.history),
            (batch, examples),
            micro_batches,
        )
        gradients = sharding.mean(gradients)
        norm = sharding.norm(gradients)
        step_metrics = metrics.gather({**parts, "gradient_norm": norm})
        updated = apply_gradients(
            sharding.local_shard(state),
            gradients,
            optimizer,
            ema_weight=ema_weight,
            constrain=lambda params: constrain(sharding.gather(params, state.params)),
            second_ema_weight=second_ema_weight,
            norm=norm,
        )
        observed = parallel.gather(observed)
        history = timestep_sampler.update(state.history, observed["position"], observed["loss"])
        updated = replace(updated, history=history)
        # `finite` does not depend on the update, so that XLA can fuse the select with it.
        finite = nan_guard.all_finite(step_metrics)
        updated = nan_guard.select(finite, updated, replace(state, step=updated.step))
        return updated, step_metrics | {"skipped": metrics.single(1 - finite)}

    return step


def accumulate(
    gradient: Callable[[Any], tuple[PyTree, PyTree]], rows: PyTree, parts: int
) -> tuple[PyTree, PyTree]:
    """Returns (mean gradient, auxiliary rows) over equal parts of the rows, with one `lax.scan`.

    gradient: maps a part to (its gradient, its auxiliary values with a leading row axis).
    """
    if parts == 1:
        return gradient(rows)
    stacked = jax.tree.map(lambda x: x.reshape(parts, -1, *x.shape[1:]), rows)

    def body(total: PyTree, part: PyTree) -> tuple[PyTree, PyTree]:
        new, auxiliary = gradient(part)
        return jax.tree.map(jnp.add, total, new), auxiliary

    first = jax.tree.map(lambda x: x[0], stacked)
    shapes, _ = jax.eval_shape(gradient, first)
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    total, auxiliary = jax.lax.scan(body, zeros, stacked)
    total = jax.tree.map(lambda x: x / parts, total)
    return total, jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), auxiliary)
