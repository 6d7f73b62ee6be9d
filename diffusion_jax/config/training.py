"""The training side of an experiment: objective, optimizer, averages and loop settings."""

from dataclasses import dataclass, fields
from typing import Any

import jax
import numpy as np
import optax
from ml_collections import ConfigDict

from diffusion_jax.config.building import accepted, section, shared_arguments
from diffusion_jax.config.schema import choose, options_in
from diffusion_jax.data import FolderOptions
from diffusion_jax.data.crops import Crop, RandomResizedCrop
from diffusion_jax.diffusion.losses import Loss
from diffusion_jax.diffusion.parameterizations import Parameterization
from diffusion_jax.diffusion.schedules import Schedule
from diffusion_jax.diffusion.timestep_samplers import TIMESTEPS, TimestepSampler
from diffusion_jax.diffusion.types import Level
from diffusion_jax.diffusion.weights import WEIGHTS, Weight
from diffusion_jax.models import Network
from diffusion_jax.training import objectives
from diffusion_jax.training.ema import AVERAGES, EMAWeight
from diffusion_jax.training.loop import LoopSettings
from diffusion_jax.training.optimizers import adamw, learning_rate_schedule


@dataclass(frozen=True)
class Training:
    """Loss, optimizer, EMA and loop of an experiment.

    Args:
        weight: of the error in the loss, a function of the level.
        timesteps: the timestep sampler.
        objective: the loss of a batch, a function of the parameters.
        optimizer: a function of the gradient; learning_rate is its schedule.
        ema, second_ema: weights of new parameters in their averages; the second may be None.
        loop: the numbers of the training loop.
    """

    weight: Weight
    timesteps: TimestepSampler
    objective: objectives.Objective
    optimizer: optax.GradientTransformation
    learning_rate: optax.Schedule
    ema: EMAWeight
    second_ema: EMAWeight | None
    loop: LoopSettings


def make_training(
    config: ConfigDict,
    model: Network,
    schedule: Schedule,
    parameterization: Parameterization,
    loss: Loss,
) -> Training:
    """Builds the training side. Raises ValueError for the first mistake."""
    _check_data(config.data)
    weight, timesteps = _make_weight(config), _make_timesteps(config, schedule)
    if timesteps.part == "vlb" and not (loss.needs_bound or model.learns_variance):
        raise ValueError(
            f"timesteps.{config.timesteps.name}.part=vlb needs a bound, which "
            f"loss.kind={config.loss.kind} does not have with this model. Set part=loss"
        )
    ema, second_ema = _make_ema(config)
    arguments = {"total_steps": config.steps} | config.optimizer.to_dict()
    with section("optimizer"):
        optimizer = adamw(**arguments)
        rate = learning_rate_schedule(**accepted(learning_rate_schedule, arguments))
    return Training(
        weight=weight,
        timesteps=timesteps,
        objective=_make_objective(
            config, model, schedule, parameterization, timesteps, loss, weight
        ),
        optimizer=optimizer,
        learning_rate=rate,
        ema=ema,
        second_ema=second_ema,
        loop=LoopSettings(**accepted(LoopSettings, config)),
    )


def _check_data(data: ConfigDict) -> None:
    Crop(data.crop, data.resolution, data.shorter_side)
    RandomResizedCrop(data.resolution, data.smallest_crop)
    FolderOptions(**{field.name: data[field.name] for field in fields(FolderOptions)})


def _make_weight(config: ConfigDict) -> Weight:
    """Returns the weight with its options, once a trace without a device has checked these."""
    name = config.loss.weight
    function = choose(WEIGHTS, name, "loss.weight")
    shared, options = shared_arguments(config, function), options_in(config.loss, name)

    def weight(level: Level, gain: Any) -> Any:
        return function(level, gain, **shared, **options)

    number = jax.ShapeDtypeStruct((1,), np.float32)
    with section(f"loss.{name}"):
        jax.eval_shape(weight, Level(number, number, number), number)
    return weight


def _make_timesteps(config: ConfigDict, schedule: Schedule) -> TimestepSampler:
    name = config.timesteps.name
    make = choose(TIMESTEPS, name, "timesteps.name")
    with section(f"timesteps.{name}"):
        return make(schedule, **options_in(config.timesteps, name))


def _make_objective(
    config: ConfigDict,
    model: Network,
    schedule: Schedule,
    parameterization: Parameterization,
    timesteps: TimestepSampler,
    loss: Loss,
    weight: Weight,
) -> objectives.Objective:
    parts = (model, schedule, parameterization, timesteps)
    if model.classifies:
        return objectives.classification(*parts)
    return objectives.denoising(
        *parts,
        loss=loss,
        weight=weight,
        vlb_weight=config.loss.vlb_weight,
        label_dropout=config.label_dropout,
    )


def _make_ema(config: ConfigDict) -> tuple[EMAWeight, EMAWeight | None]:
    averages = config.ema
    make = choose(AVERAGES, averages.name, "ema.name")
    shared = {"decay": averages.decay, "start": averages.start, "batch_size": config.batch_size}
    options = options_in(averages, averages.name)
    with section(f"ema.{averages.name}" if options else "ema"):
        ema = make(**accepted(make, shared), **options)
        width = options.get("second_sigma_rel")
        return ema, None if width is None else make(sigma_rel=width)
