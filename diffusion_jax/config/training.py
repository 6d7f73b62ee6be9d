"""The training side of an experiment: objective, optimizer, averages and loop settings."""

from dataclasses import dataclass, fields
from typing import Any

import jax
import numpy as np
import optax
from ml_collections import ConfigDict

from diffusion_jax.config.building import accepted, naming, sigma_data_argument
from diffusion_jax.config.schema import choose, options_in
from diffusion_jax.data import FolderOptions
from diffusion_jax.data.crops import Crop, RandomResizedCrop
from diffusion_jax.diffusion.losses import Loss
from diffusion_jax.diffusion.parameterizations import Parameterization
from diffusion_jax.diffusion.schedules import Schedule
from diffusion_jax.diffusion.timestep_samplers import TIMESTEP_SAMPLERS, TimestepSampler
from diffusion_jax.diffusion.types import Level
from diffusion_jax.diffusion.weights import WEIGHTS, Weight
from diffusion_jax.models import Network
from diffusion_jax.training import objectives
from diffusion_jax.training.ema import EMA_WEIGHTS, EMAWeight
from diffusion_jax.training.loop import LoopSettings
from diffusion_jax.training.optimizers import adamw, learning_rate_schedule


@dataclass(frozen=True)
class Training:
    """Objective, optimizer, EMA weights and loop settings of an experiment.

    Args:
        weight: (level, gain) -> weight of the squared error.
        timestep_sampler: distribution of the levels.
        objective: (parameters, batch, ...) -> losses; see `objectives.Objective`.
        optimizer: AdamW with the learning rate below.
        learning_rate: number of updates -> learning rate.
        ema_weight, second_ema_weight: number of updates -> weight of the new parameters in the EMA;
            None for no second EMA.
        loop: numbers of the training loop.
    """

    weight: Weight
    timestep_sampler: TimestepSampler
    objective: objectives.Objective
    optimizer: optax.GradientTransformation
    learning_rate: optax.Schedule
    ema_weight: EMAWeight
    second_ema_weight: EMAWeight | None
    loop: LoopSettings


def make_training(
    config: ConfigDict,
    model: Network,
    schedule: Schedule,
    parameterization: Parameterization,
    loss: Loss,
) -> Training:
    """Builds the training side of an experiment. Raises ValueError for the first mistake."""
    _check_data(config.data)
    weight, timestep_sampler = _make_weight(config), _make_timestep_sampler(config, schedule)
    ema_weight, second_ema_weight = _make_ema_weights(config)
    arguments = {"total_steps": config.steps} | config.optimizer.to_dict()
    with naming("optimizer"):
        optimizer = adamw(**arguments)
        rate = learning_rate_schedule(**accepted(learning_rate_schedule, arguments))
    return Training(
        weight=weight,
        timestep_sampler=timestep_sampler,
        objective=_make_objective(
            config, model, schedule, parameterization, timestep_sampler, loss, weight
        ),
        optimizer=optimizer,
        learning_rate=rate,
        ema_weight=ema_weight,
        second_ema_weight=second_ema_weight,
        loop=LoopSettings(**accepted(LoopSettings, config)),
    )


def _check_data(data: ConfigDict) -> None:
    Crop(data.crop, data.resolution, data.shorter_side)
    RandomResizedCrop(data.resolution, data.smallest_crop)
    FolderOptions(**{field.name: data[field.name] for field in fields(FolderOptions)})


def _make_weight(config: ConfigDict) -> Weight:
    """Returns the weight with its options, checked by a trace without computation."""
    name = config.loss.weight
    function = choose(WEIGHTS, name, "loss.weight")
    options = sigma_data_argument(config, function) | options_in(config.loss, name)

    def weight(level: Level, gain: Any) -> Any:
        return function(level, gain, **options)

    one_example = jax.ShapeDtypeStruct((1,), np.float32)
    with naming(f"loss.{name}"):
        jax.eval_shape(weight, Level(one_example, one_example, one_example), one_example)
    return weight


def _make_timestep_sampler(config: ConfigDict, schedule: Schedule) -> TimestepSampler:
    name = config.timesteps.name
    make = choose(TIMESTEP_SAMPLERS, name, "timesteps.name")
    with naming(f"timesteps.{name}"):
        return make(schedule, **options_in(config.timesteps, name))


def _make_objective(
    config: ConfigDict,
    model: Network,
    schedule: Schedule,
    parameterization: Parameterization,
    timestep_sampler: TimestepSampler,
    loss: Loss,
    weight: Weight,
) -> objectives.Objective:
    parts = (model, schedule, parameterization, timestep_sampler)
    if model.classifies:
        return objectives.classification(*parts)
    return objectives.denoising(
        *parts,
        loss=loss,
        weight=weight,
        vlb_weight=config.loss.vlb_weight,
        label_dropout=config.label_dropout,
    )


def _make_ema_weights(config: ConfigDict) -> tuple[EMAWeight, EMAWeight | None]:
    name = config.ema.name
    make = choose(EMA_WEIGHTS, name, "ema.name")
    shared = {"decay": config.ema.decay, "start": config.ema.start, "batch_size": config.batch_size}
    options = options_in(config.ema, name)
    with naming(f"ema.{name}" if options else "ema"):
        weight = make(**accepted(make, shared), **options)
        second_width = options.get("second_sigma_rel")
        return weight, None if second_width is None else make(sigma_rel=second_width)
