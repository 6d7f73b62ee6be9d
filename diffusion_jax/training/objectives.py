"""Training objectives: the losses of a batch, for a denoiser or a classifier of noisy images."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
from jaxtyping import Array, Int, Key, PyTree

from diffusion_jax import images
from diffusion_jax.diffusion import guidance, keys, losses, parameterizations, process, weights
from diffusion_jax.diffusion.checks import check_range
from diffusion_jax.diffusion.parameterizations import Parameterization
from diffusion_jax.diffusion.schedules import Schedule
from diffusion_jax.diffusion.timestep_samplers import TimestepSampler
from diffusion_jax.diffusion.types import Images, Keys, Leaf, Level, PerExample
from diffusion_jax.models import Network

Rows = Int[Array, "rows"]


@dataclass(frozen=True)
class NoisyBatch:
    """A batch of noisy images x = alpha x0 + sigma eps, at levels from a `TimestepSampler`.

    Args:
        position: positions of the levels in the schedule, such as timesteps t.
        importance: importance weight of each image's losses; see `TimestepSampler`.
        keys: one unused key for each image, for further random numbers.
    """

    x0: Images
    eps: Images
    x: Images
    level: Level
    position: Leaf
    importance: PerExample
    keys: Keys


# (parameters, batch, global indices of its examples, key of the step, loss history) -> (losses and
# other values by name, (rows,) each; the NoisyBatch). "loss" is minimized. The batch is
# {"image": uint8 (rows, height, width, channels), "label": int32 (rows,)}.
Objective = Callable[
    [PyTree, PyTree, Rows, Key[Array, ""], PyTree], tuple[dict[str, PerExample], NoisyBatch]
]


def noisy_batch(
    schedule: Schedule,
    timestep_sampler: TimestepSampler,
    pixels: PyTree,
    image_keys: Keys,
    history: PyTree,
) -> NoisyBatch:
    """Adds noise to uint8 images, each with its own key."""
    level_keys, noise_keys, other_keys = keys.split(image_keys, 3)
    x0 = images.normalize(pixels)
    position, importance = timestep_sampler.draw(level_keys, history)
    level = schedule.level(position)
    eps = keys.normal(noise_keys, x0.shape[1:])
    x = process.q_sample(level, x0, eps)
    return NoisyBatch(x0, eps, x, level, position, importance, other_keys)


def denoising(
    model: Network,
    schedule: Schedule,
    parameterization: Parameterization,
    timestep_sampler: TimestepSampler,
    *,
    loss: losses.Loss,
    weight: weights.Weight,
    vlb_weight: float,
    label_dropout: float,
) -> Objective:
    """Returns the objective of a denoiser; see `losses.diffusion_loss`.

    Raises ValueError for a negative vlb_weight, and a label_dropout outside [0, 1).
    """
    check_range("loss.vlb_weight", vlb_weight, 0)
    check_range("label_dropout", label_dropout, 0, 1)
    if label_dropout == 1:
        raise ValueError(
            f"label_dropout={label_dropout} must be less than 1, or no class is learned"
        )

    def objective(
        params: PyTree, batch: PyTree, examples: Rows, key: Key[Array, ""], history: PyTree
    ) -> tuple[dict[str, PerExample], NoisyBatch]:
        examples_key, dropout_key = jax.random.split(key)
        image_keys = keys.per_example(examples_key, examples)
        noisy = noisy_batch(schedule, timestep_sampler, batch["image"], image_keys, history)
        level, x0, x = noisy.level, noisy.x0, noisy.x
        labels = guidance.drop_labels(noisy.keys, batch["label"], label_dropout, model.num_classes)
        condition = model.training_condition(x0, labels)
        network = bind_network(model, params, examples, dropout_key)
        output = parameterizations.apply_network(network, parameterization, x, level, condition)
        error = loss.error(parameterization.target(level, x0, noisy.eps), output.estimate)
        error *= weight(level, weights.gain(parameterization, level))
        prediction = parameterizations.to_prediction(parameterization, x, level, output)
        step = schedule.steps_from(noisy.position)
        parts = losses.diffusion_loss(loss, error, step, x0, x, prediction, vlb_weight=vlb_weight)
        if output.uncertainty is not None:
            parts["loss"] = losses.with_uncertainty(parts["loss"], output.uncertainty)
        return parts, noisy

    return objective


def classification(
    model: Network,
    schedule: Schedule,
    parameterization: Parameterization,
    timestep_sampler: TimestepSampler,
) -> Objective:
    """Returns the objective of a classifier: cross-entropy on noisy images.

    arXiv:2105.05233, section 4.
    """

    def objective(
        params: PyTree, batch: PyTree, examples: Rows, key: Key[Array, ""], history: PyTree
    ) -> tuple[dict[str, PerExample], NoisyBatch]:
        examples_key, dropout_key = jax.random.split(key)
        image_keys = keys.per_example(examples_key, examples)
        noisy = noisy_batch(schedule, timestep_sampler, batch["image"], image_keys, history)
        network = bind_network(model, params, examples, dropout_key)
        logits = network(*parameterizations.network_inputs(parameterization, noisy.x, noisy.level))
        return losses.classification_loss(logits, batch["label"]), noisy

    return objective


def bind_network(
    model: Network, params: PyTree, examples: Rows, dropout_key: Key[Array, ""]
) -> Callable[..., Any]:
    """Returns the network in training mode: (x, c_noise, condition) -> output."""
    return partial(
        model.apply,
        {"params": params},
        train=True,
        examples=examples,
        rngs={"dropout": dropout_key},
    )
