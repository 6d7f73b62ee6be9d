"""One training step as a pure function: (state, batch) -> (state, metrics)."""

from collections.abc import Callable
from typing import Any

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from clu import metrics as clu_metrics
from jaxtyping import Array, Int, Key, PyTree

from diffusion_jax import images, parallel
from diffusion_jax.diffusion import guidance, keys, process, timesteps
from diffusion_jax.diffusion.losses import diffusion_loss
from diffusion_jax.diffusion.schedules import Schedule
from diffusion_jax.diffusion.types import NetworkOutput
from diffusion_jax.training.state import TrainState, apply_gradients


@flax.struct.dataclass
class StepMetrics(clu_metrics.Collection):
    """Means over the examples of a batch; `merge` extends them over steps."""

    loss: clu_metrics.Average.from_output("loss")
    simple: clu_metrics.Average.from_output("simple")
    vlb: clu_metrics.Average.from_output("vlb")
    gradient_norm: clu_metrics.Average.from_output("gradient_norm")


def make_train_step(
    model: nn.Module,
    schedule: Schedule,
    optimizer: optax.GradientTransformation,
    *,
    seed: int,
    loss_kind: str,
    vlb_weight: float,
    label_dropout: float,
    micro_batches: int,
    ema_decay: float,
) -> Callable[[TrainState, PyTree], tuple[TrainState, StepMetrics]]:
    """The step that `parallel.data_parallel` runs on every device.

    Its batch is {"image": uint8 (rows, height, width, channels), "label": int32 (rows,)}, this
    device's rows. The rows are taken in micro_batches equal parts, one after the other, whose
    gradients are averaged: one step is one update, whatever micro_batches is.
    """
    root = keys.derive(seed, "train")

    def losses(
        params: PyTree, batch: PyTree, examples: Int[Array, "rows"], key: Key[Array, ""]
    ) -> tuple[Array, dict[str, Array]]:
        for_examples, for_dropout = jax.random.split(key)
        own_keys = keys.per_example(for_examples, examples)
        for_t, for_noise, for_label = keys.split(own_keys, 3)
        x0 = images.normalize(batch["image"])
        t = timesteps.uniform(for_t, schedule.num_steps)
        noise = keys.normal(for_noise, x0.shape[1:])
        x_t = process.q_sample(schedule, x0, t, noise)
        labels = None
        if model.num_classes:
            null = model.num_classes
            labels = guidance.drop_labels(for_label, batch["label"], label_dropout, null)

        def network(x: Array, timestep: Array, labels: Array | None) -> NetworkOutput:
            return model.apply(
                {"params": params},
                x,
                timestep,
                labels,
                train=True,
                examples=examples,
                rngs={"dropout": for_dropout},
            )

        prediction = process.denoiser_from_network(schedule, network)(x_t, t, labels)
        parts = diffusion_loss(
            loss_kind, schedule, x0, x_t, t, noise, prediction, vlb_weight=vlb_weight
        )
        return jnp.mean(parts["loss"]), parts

    def step(state: TrainState, batch: PyTree) -> tuple[TrainState, StepMetrics]:
        examples = parallel.global_rows(batch["label"].shape[0])
        key = jax.random.fold_in(root, state.step)
        gradients, parts = accumulate(
            lambda part: jax.grad(losses, has_aux=True)(state.params, *part, key),
            (batch, examples),
            micro_batches,
        )
        gradients = parallel.mean(gradients)
        metrics = StepMetrics.gather_from_model_output(
            axis_name=parallel.AXIS, gradient_norm=optax.tree.norm(gradients), **parts
        )
        return apply_gradients(state, gradients, optimizer, ema_decay), metrics

    return step


def accumulate(
    gradient: Callable[[Any], tuple[PyTree, PyTree]], rows: PyTree, parts: int
) -> tuple[PyTree, PyTree]:
    """(mean gradient, auxiliary rows) over equal parts of the rows, a `lax.scan` of one at a time.

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
