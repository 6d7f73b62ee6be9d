"""One training step as a pure function: (state, batch) -> (state, metrics)."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int, Key, PyTree

from diffusion_jax import images, parallel
from diffusion_jax.diffusion import guidance, keys, parametrisations, process, weights
from diffusion_jax.diffusion.losses import Loss, diffusion_loss, with_uncertainty
from diffusion_jax.diffusion.parametrisations import Parametrisation
from diffusion_jax.diffusion.schedules import Schedule
from diffusion_jax.diffusion.timesteps import TimestepSampler
from diffusion_jax.models import Network
from diffusion_jax.training import averages, metrics
from diffusion_jax.training.metrics import Metrics
from diffusion_jax.training.state import TrainState, apply_gradients


def make_train_step(
    model: Network,
    schedule: Schedule,
    parametrisation: Parametrisation,
    optimizer: optax.GradientTransformation,
    timesteps: TimestepSampler,
    *,
    seed: int,
    loss: Loss,
    weight: weights.Weight,
    vlb_weight: float,
    label_dropout: float,
    micro_batches: int,
    average: averages.Decay,
) -> Callable[[TrainState, PyTree], tuple[TrainState, Metrics]]:
    """The step that `parallel.data_parallel` runs on every device.

    Its batch is {"image": uint8 (rows, height, width, channels), "label": int32 (rows,)}, this
    device's rows. The rows are taken in micro_batches equal parts, one after the other, whose
    gradients are averaged: one step is one update, whatever micro_batches is.
    """
    root = keys.derive(seed, "train")

    def losses(
        params: PyTree,
        batch: PyTree,
        examples: Int[Array, "rows"],
        key: Key[Array, ""],
        history: PyTree,
    ) -> tuple[Array, tuple[dict[str, Array], PyTree]]:
        for_examples, for_dropout = jax.random.split(key)
        own_keys = keys.per_example(for_examples, examples)
        for_level, for_noise, for_label = keys.split(own_keys, 3)
        x0 = images.normalize(batch["image"])
        position, importance = timesteps.draw(for_level, history)
        level = schedule.level(position)
        noise = keys.normal(for_noise, x0.shape[1:])
        x = process.q_sample(level, x0, noise)
        labels = guidance.drop_labels(for_label, batch["label"], label_dropout, model.num_classes)
        condition = model.training_condition(x0, labels)

        network = partial(
            model.apply,
            {"params": params},
            train=True,
            examples=examples,
            rngs={"dropout": for_dropout},
        )
        output = parametrisations.ask(network, parametrisation, x, level, condition)
        error = loss.error(parametrisation.target(level, x0, noise), output.estimate)
        error *= weight(level, weights.gain(parametrisation, level))
        prediction = parametrisations.predict(parametrisation, x, level, output)
        parts = diffusion_loss(
            loss, error, schedule.after(position), x0, x, prediction, vlb_weight=vlb_weight
        )
        if output.uncertainty is not None:
            parts["loss"] = with_uncertainty(parts["loss"], output.uncertainty)
        observed = {"position": position, "loss": parts["loss"]}
        # Means over what was drawn are then those over uniform levels.
        parts = {name: importance * values for name, values in parts.items()}
        return jnp.mean(parts["loss"]), (parts, observed)

    def step(state: TrainState, batch: PyTree) -> tuple[TrainState, Metrics]:
        examples = parallel.global_rows(batch["label"].shape[0])
        key = jax.random.fold_in(root, state.step)
        gradients, (parts, observed) = accumulate(
            lambda part: jax.grad(losses, has_aux=True)(state.params, *part, key, state.history),
            (batch, examples),
            micro_batches,
        )
        gradients = parallel.mean(gradients)
        now = metrics.gathered({**parts, "gradient_norm": optax.tree.norm(gradients)})
        new = apply_gradients(state, gradients, optimizer, average, constrain=model.constrained)
        observed = parallel.gather(observed)
        history = timesteps.update(state.history, observed["position"], observed["loss"])
        return replace(new, history=history), now

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
