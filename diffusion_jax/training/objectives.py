"""What training minimizes: losses of a batch of noisy images, for a denoiser or a classifier."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
from jaxtyping import Array, Int, Key, PyTree

from diffusion_jax import images
from diffusion_jax.diffusion import guidance, keys, losses, parameterizations, process, weights
from diffusion_jax.diffusion.parameterizations import Parameterization
from diffusion_jax.diffusion.schedules import Schedule
from diffusion_jax.diffusion.timestep_samplers import TimestepSampler
from diffusion_jax.diffusion.types import Images, Keys, Leaf, Level, PerExample
from diffusion_jax.models import Network

Rows = Int[Array, "rows"]


@dataclass(frozen=True)
class Drawn:
    """Noisy images x = signal x0 + noise eps of a batch, at levels that a sampler has drawn.

    position: of the levels in the schedule. importance: what their losses count. keys: of the
    examples, for more random numbers.
    """

    x0: Images
    eps: Images
    x: Images
    level: Level
    position: Leaf
    importance: PerExample
    keys: Keys


# (parameters, batch, indices of its rows in the global batch, key, history of the losses) ->
# (values of each example by name, of which "loss" is minimized; positions of the schedule). The
# batch is {"image": uint8 (rows, height, width, channels), "label": int32 (rows,)}.
Objective = Callable[
    [PyTree, PyTree, Rows, Key[Array, ""], PyTree], tuple[dict[str, PerExample], Drawn]
]


def noisy(
    schedule: Schedule,
    timesteps: TimestepSampler,
    pixels: PyTree,
    own_keys: Keys,
    history: PyTree,
) -> Drawn:
    """Noisy images, each by its own key. pixels: uint8."""
    for_level, for_noise, rest = keys.split(own_keys, 3)
    x0 = images.normalize(pixels)
    position, importance = timesteps.draw(for_level, history)
    level = schedule.level(position)
    noise = keys.normal(for_noise, x0.shape[1:])
    x = process.q_sample(level, x0, noise)
    return Drawn(x0, noise, x, level, position, importance, rest)


def denoising(
    model: Network,
    schedule: Schedule,
    parameterization: Parameterization,
    timesteps: TimestepSampler,
    *,
    loss: losses.Loss,
    weight: weights.Weight,
    vlb_weight: float,
    label_dropout: float,
) -> Objective:
    """The loss of a denoiser, see `losses.diffusion_loss`."""

    def objective(
        params: PyTree, batch: PyTree, examples: Rows, key: Key[Array, ""], history: PyTree
    ) -> tuple[dict[str, PerExample], Drawn]:
        for_examples, for_dropout = jax.random.split(key)
        own_keys = keys.per_example(for_examples, examples)
        drawn = noisy(schedule, timesteps, batch["image"], own_keys, history)
        level, x0, x = drawn.level, drawn.x0, drawn.x
        labels = guidance.drop_labels(drawn.keys, batch["label"], label_dropout, model.num_classes)
        condition = model.training_condition(x0, labels)
        network = applied(model, params, examples, for_dropout)
        output = parameterizations.apply_network(network, parameterization, x, level, condition)
        error = loss.error(parameterization.target(level, x0, drawn.eps), output.estimate)
        error *= weight(level, weights.gain(parameterization, level))
        prediction = parameterizations.to_prediction(parameterization, x, level, output)
        next = schedule.after(drawn.position)
        parts = losses.diffusion_loss(loss, error, next, x0, x, prediction, vlb_weight=vlb_weight)
        if output.uncertainty is not None:
            parts["loss"] = losses.with_uncertainty(parts["loss"], output.uncertainty)
        return parts, drawn

    return objective


def classification(
    model: Network,
    schedule: Schedule,
    parameterization: Parameterization,
    timesteps: TimestepSampler,
) -> Objective:
    """The cross-entropy of a classifier of noisy images. arXiv:2105.05233, section 4."""

    def objective(
        params: PyTree, batch: PyTree, examples: Rows, key: Key[Array, ""], history: PyTree
    ) -> tuple[dict[str, PerExample], Drawn]:
        for_examples, for_dropout = jax.random.split(key)
        own_keys = keys.per_example(for_examples, examples)
        drawn = noisy(schedule, timesteps, batch["image"], own_keys, history)
        network = applied(model, params, examples, for_dropout)
        logits = network(*parameterizations.network_inputs(parameterization, drawn.x, drawn.level))
        return losses.classification_loss(logits, batch["label"]), drawn

    return objective


def applied(
    model: Network, params: PyTree, examples: Rows, for_dropout: Key[Array, ""]
) -> Callable[..., Any]:
    """The network as training runs it, (x, c_noise, condition) -> its output."""
    return partial(
        model.apply,
        {"params": params},
        train=True,
        examples=examples,
        rngs={"dropout": for_dropout},
    )
