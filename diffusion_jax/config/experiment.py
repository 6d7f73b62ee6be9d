"""Experiment: the objects that a config describes, built once. Building them is its validation."""

import inspect
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from typing import Any

import jax
import numpy as np
import optax
from ml_collections import ConfigDict

from diffusion_jax.config import schema
from diffusion_jax.config.named_configs import config as named_config
from diffusion_jax.config.schema import choose, options_in
from diffusion_jax.data import FolderOptions
from diffusion_jax.data.crops import Crop, RandomResizedCrop
from diffusion_jax.diffusion import schedules
from diffusion_jax.diffusion.guidance import Guidance
from diffusion_jax.diffusion.losses import ERRORS, LOSSES, Loss
from diffusion_jax.diffusion.parameterizations import PARAMETERIZATIONS, Parameterization
from diffusion_jax.diffusion.timestep_samplers import TIMESTEPS, TimestepSampler
from diffusion_jax.diffusion.types import Level
from diffusion_jax.diffusion.weights import WEIGHTS, Weight
from diffusion_jax.models import MODELS, Network
from diffusion_jax.sampling import SOLVERS, SPACINGS, make_sampling_schedule
from diffusion_jax.sampling.settings import SamplingSettings
from diffusion_jax.training import objectives
from diffusion_jax.training.ema import AVERAGES, Decay
from diffusion_jax.training.loop import LoopSettings
from diffusion_jax.training.optimizers import adamw, learning_rate_schedule

LONGEST = 900  # characters of an error
LARGEST_GUIDANCE = 1000.0


@dataclass(frozen=True)
class Experiment:
    """What a config describes.

    Args:
        config: the config itself, for what is recorded of a run; the objects follow from it.
        model: the network.
        schedule: noise levels.
        parameterization: the target of the network.
        loss, weight: the training loss, and the weight of its error.
        timesteps: the timestep sampler of training.
        objective: model, schedule, parameterization, timesteps and loss as one function.
        optimizer: a function of the gradient; learning_rate is its schedule.
        ema, second_ema: decays of the averages of the parameters; the second may be None.
        loop: the numbers of the training loop.
        sampling: solver, levels and guidance.
    """

    config: ConfigDict
    model: Network
    schedule: schedules.Schedule
    parameterization: Parameterization
    loss: Loss
    weight: Weight
    timesteps: TimestepSampler
    objective: objectives.Objective
    optimizer: optax.GradientTransformation
    learning_rate: optax.Schedule
    ema: Decay
    second_ema: Decay | None
    loop: LoopSettings
    sampling: SamplingSettings

    @classmethod
    def from_config(cls, config: ConfigDict) -> "Experiment":
        """Builds the experiment. Raises ValueError, in one line, for the first mistake."""
        with _one_line():
            config = config.copy_and_resolve_references()
            schema.check_fields(config, named_config("base"))
            _check_values(config)
            model = make_model(config)
            schedule = _make_schedule(config)
            parameterization = _make_parameterization(config)
            loss, weight = _make_loss(config), _make_weight(config)
            timesteps = _make_timesteps(config, schedule)
            ema, second_ema = _make_ema(config)
            of_optimizer = {"total_steps": config.steps} | config.optimizer.to_dict()
            with _field("optimizer"):
                optimizer = adamw(**of_optimizer)
                learning_rate = learning_rate_schedule(
                    **_taken(learning_rate_schedule, of_optimizer)
                )
            experiment = cls(
                config=config.lock(),
                model=model,
                schedule=schedule,
                parameterization=parameterization,
                loss=loss,
                weight=weight,
                timesteps=timesteps,
                objective=_make_objective(
                    config, model, schedule, parameterization, timesteps, loss, weight
                ),
                optimizer=optimizer,
                learning_rate=learning_rate,
                ema=ema,
                second_ema=second_ema,
                loop=LoopSettings(**_taken(LoopSettings, config)),
                sampling=_make_sampling(config, schedule, loss),
            )
            _check_together(experiment)
            model.check(config.data.resolution)
            return experiment

    def with_sampling(self, sampling: ConfigDict) -> "Experiment":
        """Returns the experiment with another section `config.sampling`.

        Raises ValueError, in one line, for a mistake in it.
        """
        config = self.config.copy_and_resolve_references()
        with _one_line(), config.unlocked():
            config.sampling = sampling
            schema.check_fields(config, named_config("base"))
            _check_values(config)
            made = _make_sampling(config, self.schedule, self.loss)
            experiment = replace(self, config=config.lock(), sampling=made)
            _check_together(experiment)
            return experiment

    @property
    def shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of the images."""
        return (self.config.data.resolution,) * 2 + (self.model.channels,)


def make_model(config: ConfigDict) -> Network:
    """Returns the network: `MODELS[name](**the rest of the section)`."""
    fields = config.model.to_dict()
    network = MODELS[schema.check_network(fields.pop("name"))]
    return network(**fields, **_taken(network, _quirks(config)))


def _make_schedule(config: ConfigDict) -> schedules.Schedule:
    section = config.schedule
    choose(schedules.SCHEDULES, section.name, "schedule.name")
    with _field(f"schedule.{section.name}"):
        return schedules.make_schedule(
            section.name,
            num_steps=section.num_steps,
            first_timestep=section.first_timestep,
            rescale_timesteps=section.rescale_timesteps,
            **_taken(schedules.make_schedule, _quirks(config)),
            **options_in(section, section.name),
        )


def _make_parameterization(config: ConfigDict) -> Parameterization:
    section = config.parameterization
    make = choose(PARAMETERIZATIONS, section.name, "parameterization.name")
    with _field("parameterization"):
        return make(**_shared(config, make), **options_in(section, section.name))


def _make_loss(config: ConfigDict) -> Loss:
    section = config.loss
    make = choose(LOSSES, section.kind, "loss.kind")
    with _field(f"loss.{section.kind}"):
        loss = make(**options_in(section, section.kind))
    return replace(loss, error=choose(ERRORS, section.error, "loss.error"))


def _make_weight(config: ConfigDict) -> Weight:
    """Returns the weight with its options, once a trace without a device has checked these."""
    name = config.loss.weight
    function = choose(WEIGHTS, name, "loss.weight")
    shared, options = _shared(config, function), options_in(config.loss, name)

    def weight(level: Level, gain: Any) -> Any:
        return function(level, gain, **shared, **options)

    number = jax.ShapeDtypeStruct((1,), np.float32)
    with _field(f"loss.{name}"):
        jax.eval_shape(weight, Level(number, number, number), number)
    return weight


def _make_timesteps(config: ConfigDict, schedule: schedules.Schedule) -> TimestepSampler:
    name = config.timesteps.name
    make = choose(TIMESTEPS, name, "timesteps.name")
    with _field(f"timesteps.{name}"):
        return make(schedule, **options_in(config.timesteps, name))


def _make_objective(
    config: ConfigDict,
    model: Network,
    schedule: schedules.Schedule,
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


def _make_ema(config: ConfigDict) -> tuple[Decay, Decay | None]:
    section = config.ema
    make = choose(AVERAGES, section.name, "ema.name")
    shared = {"decay": section.decay, "start": section.start, "batch_size": config.batch_size}
    options = options_in(section, section.name)
    with _field(f"ema.{section.name}" if options else "ema"):
        ema = make(**_taken(make, shared), **options)
        width = options.get("second_sigma_rel")
        return ema, None if width is None else make(sigma_rel=width)


def _make_sampling(
    config: ConfigDict, schedule: schedules.Schedule, loss: Loss
) -> SamplingSettings:
    section = config.sampling
    solver = choose(SOLVERS, section.solver, "sampling.solver")
    options = options_in(section, section.solver)
    with _field(f"sampling.{section.solver}"):
        conventions = solver(**options).conventions
    choose(SPACINGS, section.spacing, "sampling.spacing")
    with _field("sampling"):
        path = make_sampling_schedule(
            schedule,
            steps=section.steps,
            stride=section.stride,
            spacing=section.spacing,
            to_clean_image=conventions.to_clean_image,
            **options_in(section, section.spacing),
        )
    low, high = section.guidance_low, section.guidance_high
    return SamplingSettings(
        solver=solver,
        options=options,
        path=path,
        guidance=Guidance(
            scale=section.guidance,
            interval=(low, np.inf if high is None else high) if low or high is not None else None,
            rescale=section.guidance_rescale,
            clip=section.clip,
            quantile=section.dynamic_threshold,
            classifier_scale=section.classifier_scale if section.classifier else None,
            learned_variance=loss.needs_bound,
        ),
    )


# (fields, test, what they must be): fields that no constructor takes as they are.
RANGES: list[tuple[str, Callable[[Any], bool], str]] = [
    ("seed", lambda v: 0 <= v < 2**32, "in [0, 2^32)"),
    ("schedule.num_steps", lambda v: v >= 2, "at least 2"),
    ("label_dropout", lambda v: 0 <= v < 1, "in [0, 1)"),
    ("loss.vlb_weight", lambda v: v >= 0, "at least 0"),
    (
        "cpu_devices data.threads sampling.steps sampling.stride "
        "sampling.grid_rows sampling.grid_columns sampling.autoguidance_checkpoint "
        "sampling.classifier_checkpoint",
        lambda v: v >= 1,
        "at least 1",
    ),
    (
        "sampling.guidance sampling.classifier_scale",
        lambda v: 0 <= v <= LARGEST_GUIDANCE,
        f"in [0, {LARGEST_GUIDANCE:g}]",
    ),
    ("sampling.guidance_rescale", lambda v: 0 <= v <= 1, "in [0, 1]"),
    ("sampling.dynamic_threshold", lambda v: 0 < v <= 1, "in (0, 1], such as 0.995, or None"),
]


def _check_values(config: ConfigDict) -> None:
    values = schema.flatten(config)
    for names, test, wanted in RANGES:
        for name in names.split():
            if values[name] is not None and not test(values[name]):
                raise ValueError(f"{name}={values[name]} must be {wanted}")
    data = config.data
    Crop(data.crop, data.resolution, data.shorter_side)
    RandomResizedCrop(data.resolution, data.smallest_crop)
    FolderOptions(**{field.name: data[field.name] for field in fields(FolderOptions)})


def _check_together(experiment: Experiment) -> None:
    """Raises ValueError for parts that do not fit each other."""
    config, model = experiment.config, experiment.model
    sampling = config.sampling
    low, high = sampling.guidance_low, sampling.guidance_high
    if low < 0 or (high is not None and low >= high):
        raise ValueError(
            f"sampling.guidance_low={low} must be at least 0 and less than "
            f"sampling.guidance_high={high} (None: no limit), both in sigma / alpha"
        )
    smallest, largest = experiment.schedule.sigma_range
    if low >= largest or (high is not None and high < smallest):
        raise ValueError(
            f"sampling.guidance_low={low} and sampling.guidance_high={high} leave nothing to "
            f"guide: sigma / alpha of this schedule is from {smallest:.3g} to {largest:.3g}"
        )
    guided_by_null = sampling.guidance > 0 and not sampling.autoguidance
    if model.num_classes and guided_by_null and not config.label_dropout:
        raise ValueError(
            f"sampling.guidance={sampling.guidance} needs the null class, which label_dropout=0 "
            "does not train; set sampling.guidance=0 or label_dropout=0.1, say"
        )
    for guide in ("autoguidance", "classifier"):
        checkpoint = sampling[f"{guide}_checkpoint"]
        if checkpoint is not None and not sampling[guide]:
            raise ValueError(
                f"sampling.{guide}_checkpoint={checkpoint} needs sampling.{guide}, the workdir of "
                "a run"
            )
    _check_loss(experiment)


def _check_loss(experiment: Experiment) -> None:
    """Raises ValueError unless loss, schedule, timestep sampler and model fit each other."""
    config, loss, model = experiment.config, experiment.loss, experiment.model
    kind, error, weight = config.loss.kind, config.loss.error, config.loss.weight
    if weight != "uniform" and not loss.uses_error:
        raise ValueError(
            f"loss.weight={weight} weights the squared error, which loss.kind={kind} does not "
            "have. Set loss.weight=uniform"
        )
    if error != "squared" and not loss.uses_error:
        raise ValueError(
            f"loss.error={error} has no effect with loss.kind={kind}. Set loss.error=squared"
        )
    if error != "squared" and weight != "uniform":
        raise ValueError(
            f"loss.weight={weight} is derived for the squared error, and loss.error={error} was "
            "given. Set loss.weight=uniform"
        )
    if loss.needs_bound and experiment.schedule.num_steps is None:
        raise ValueError(
            f"loss.kind={kind} has a variational bound, which needs a chain of steps; "
            f"schedule.name={config.schedule.name} is continuous. Set loss.kind=simple"
        )
    if experiment.timesteps.part == "vlb" and not (loss.needs_bound or model.learns_variance):
        raise ValueError(
            f"timesteps.{config.timesteps.name}.part=vlb needs a bound, which loss.kind={kind} "
            "does not have with this model. Set part=loss"
        )
    if kind == "vlb" and config.loss.vlb.variance != "small" and model.learns_variance:
        raise ValueError(
            f"loss.vlb.variance={config.loss.vlb.variance} is for models without a learned "
            "variance, and this model has one. Set loss.vlb.variance=small"
        )
    if loss.of_classes != model.classifies:
        needed = "cross_entropy" if model.classifies else "simple"
        raise ValueError(
            f"model.name={config.model.name} {'is' if model.classifies else 'is not'} a "
            f"classifier, and loss.kind={kind} does not train it. Set loss.kind={needed}"
        )
    if loss.needs_variance and not model.learns_variance:
        raise ValueError(
            f"loss.kind={kind} trains a variance, which this model does not have. Set "
            "loss.kind=simple"
        )


def _shared(config: ConfigDict, function: Callable) -> dict[str, Any]:
    """Returns the fields that several entries of a table share, as far as this one takes them."""
    return _taken(function, {"sigma_data": config.parameterization.sigma_data})


def _quirks(config: ConfigDict) -> dict[str, Any]:
    quirks = config.original_quirks
    return {"original_quirks": quirks, "behaviour": "original" if quirks else "corrected"}


def _taken(function: Callable, given: Mapping[str, Any] | ConfigDict) -> dict[str, Any]:
    """Returns the values that the function has arguments for."""
    return {name: given[name] for name in inspect.signature(function).parameters if name in given}


@contextmanager
def _field(name: str) -> Any:
    """Puts the name of the field or section in front of errors."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    except TypeError as error:  # a text where a number belongs
        raise ValueError(f"{name} has an option of a wrong type: {error}") from None


@contextmanager
def _one_line() -> Any:
    """Makes errors ValueErrors of one line."""
    try:
        yield
    except ValueError as error:
        line = " ".join(str(error).split())
        if line == str(error) and len(line) <= LONGEST:
            raise
        raise ValueError(line[:LONGEST]) from None
    # A stored config may hold a section in place of a number, for example.
    except (TypeError, AttributeError, KeyError, OverflowError) as error:
        reason = " ".join(str(error).split())[:LONGEST]
        raise ValueError(
            f"The config has a value of a wrong kind ({type(error).__name__}: {reason}); start "
            "from configs/base.py"
        ) from None
