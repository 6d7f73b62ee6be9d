"""Checks of a whole config, before data or devices are touched."""

import inspect
import math
from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from diffusion_jax.config import build
from diffusion_jax.config.rules import RULES, holds
from diffusion_jax.config.schema import TABLES, known_network, model_section, options_by_name
from diffusion_jax.data import FolderOptions, make_source
from diffusion_jax.diffusion.types import Level
from diffusion_jax.training.optimizers import adamw
from diffusion_jax.workdir.config import flatten


def _arguments(function: Callable) -> set[str]:
    return set(inspect.signature(function).parameters) - {"parent", "name"}


def _known_fields(section: str, config: ConfigDict) -> set[str]:
    """The fields that a section must have, no more and no fewer."""
    options = {name for table in TABLES.get(section, ()) for name in options_by_name(table)}
    match section:
        case "data":
            arguments = _arguments(make_source) | _arguments(FolderOptions)
            arguments |= {"name", *build.OF_THE_PIPELINE}
            return arguments - {"channels", "num_classes", "folder_options"}
        case "model":
            return set(model_section(known_network(config.model.get("name", "unet"))))
        case "optimizer":
            return _arguments(adamw)
        case "schedule":
            own = {"name", "num_steps", "behaviour", "first_timestep", "rescale_timesteps"}
            return own | options
        case "timesteps":
            return {"name"} | options
        case "loss":
            return {"kind", "error", "weight", "vlb_weight"} | options
        case "sampling":
            own = {"solver", "steps", "stride", "spacing", "guidance", "guidance_low"}
            own |= {"guidance_high", "guidance_rescale", "dynamic_threshold", "autoguidance"}
            own |= {"classifier", "classifier_checkpoint", "classifier_scale"}
            own |= {"autoguidance_checkpoint", "clip", "grid_rows", "grid_columns"}
            return own | options
    return options


SECTIONS = ("data", "model", "schedule", "parameterizations", "loss", "optimizer", "averages")
SECTIONS += ("timesteps", "sampling")
TOP = {"behaviour", "seed", "batch_size", "micro_batches", "steps", "label_dropout", "ema_decay"}
TOP |= {"ema_start", "average"}
TOP |= {"log_every", "sample_every", "checkpoint_every", "keep_latest", "keep_every"}
TOP |= {"parameterization", "init_from", "early_sample_minutes", "max_nan_steps", "roll_back"}
TOP |= {"shard_state", "cpu_devices"}

MOST_SHOWN = 200  # characters of a value in an error
LONGEST = 900  # characters of an error


def validate(config: ConfigDict) -> None:
    """Raises ValueError, in one line, for the first mistake in the config."""
    try:
        _validate(config)
    except ValueError as error:
        line = " ".join(str(error).split())
        if line == str(error) and len(line) <= LONGEST:
            raise
        raise ValueError(line[:LONGEST]) from None
    # What was built from it got a section for a number, say, as a damaged file may have it.
    except (TypeError, AttributeError, KeyError, OverflowError) as error:
        reason = " ".join(str(error).split())[:LONGEST]
        raise ValueError(
            f"The config has a value of a wrong kind ({type(error).__name__}: {reason}); start "
            "from configs/base.py"
        ) from None


def _validate(config: ConfigDict) -> None:
    _same_keys("config", config, TOP | set(SECTIONS))
    for section in SECTIONS:
        _same_keys(f"config.{section}", config[section], _known_fields(section, config))
    values = flatten(config)
    for name, value in values.items():
        if isinstance(value, int) and not abs(value) < 2**31 and name != "seed":
            raise ValueError(f"{name}={value} must be less than 2^31")
    for names, test, wanted in RULES:
        for name in names.split():
            # A section without fields, in the place of a value, has none.
            if name not in values or not holds(test, values[name]):
                value = " ".join(str(values.get(name, {})).split())[:MOST_SHOWN]
                raise ValueError(f"{name}={value} must be {wanted}")
    _check_sections(config)
    if config.batch_size % config.micro_batches:
        raise ValueError(
            f"batch_size={config.batch_size} is not divisible by "
            f"micro_batches={config.micro_batches}"
        )
    sampling = config.sampling
    low, high = sampling.guidance_low, sampling.guidance_high
    if not 0 <= low < (high or float("inf")):
        raise ValueError(
            f"sampling.guidance_low={low} must be at least 0 and less than "
            f"sampling.guidance_high={high} (0: no limit), both in noise / signal"
        )
    guided_by_null = sampling.guidance > 0 and not sampling.autoguidance
    if config.model.num_classes and guided_by_null and not config.label_dropout:
        raise ValueError(
            f"sampling.guidance={config.sampling.guidance} needs the null class, which "
            "label_dropout=0 does not train; set sampling.guidance=0 or label_dropout=0.1, say"
        )
    warmup, decay = config.optimizer.warmup_steps, config.optimizer.decay_steps
    if decay and warmup >= decay:
        raise ValueError(
            f"optimizer.warmup_steps={warmup} must be less than optimizer.decay_steps={decay}, "
            "which may be as many as config.steps; set optimizer.warmup_steps=0, say"
        )
    for name, value in values.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{name}={value} must be finite")


def _check_sections(config: ConfigDict) -> None:
    """Builds everything that the config names, which raises ValueError for options out of range.

    Also checks that loss, schedule and model fit each other.
    """
    build.check_data(config)
    loss = _built(f"loss.{config.loss.kind}", build.make_loss, config)
    schedule = _built(f"schedule.{config.schedule.name}", build.make_schedule, config)
    parameterization = config.parameterization
    _built(f"parameterizations.{parameterization}", build.make_parameterization, config)
    _built(f"loss.{config.loss.weight}", _try_weight, config)
    _built(f"sampling.{config.sampling.solver}", build.make_solver, config)
    _built("sampling", build.make_sampling_path, config)
    timesteps = _built(f"timesteps.{config.timesteps.name}", build.make_timesteps, config)
    _built(f"averages.{config.average}", build.make_average, config)
    sampling = config.sampling
    for guide in ("autoguidance", "classifier"):
        checkpoint = sampling[f"{guide}_checkpoint"]
        if checkpoint and not sampling[guide]:
            raise ValueError(
                f"sampling.{guide}_checkpoint={checkpoint} needs sampling.{guide}, the workdir of "
                "a run"
            )
    smallest, largest = schedule.sigma_range
    if sampling.guidance_low >= largest or 0 < sampling.guidance_high < smallest:
        raise ValueError(
            f"sampling.guidance_low={sampling.guidance_low} and "
            f"sampling.guidance_high={sampling.guidance_high} leave nothing to guide: noise / "
            f"signal of this schedule is from {smallest:.3g} to {largest:.3g}"
        )
    if config.loss.weight != "uniform" and not loss.uses_error:
        raise ValueError(
            f"loss.weight={config.loss.weight} weighs the squared error, which "
            f"loss.kind={config.loss.kind} does not have. Set loss.weight=uniform"
        )
    if config.loss.error != "squared" and not loss.uses_error:
        raise ValueError(
            f"loss.error={config.loss.error} is of an estimate, which "
            f"loss.kind={config.loss.kind} does not look at. Set loss.error=squared"
        )
    if config.loss.error != "squared" and config.loss.weight != "uniform":
        raise ValueError(
            f"loss.weight={config.loss.weight} is derived for the squared error, and "
            f"loss.error={config.loss.error} was chosen. Set loss.weight=uniform"
        )
    if loss.needs_bound and schedule.num_steps is None:
        raise ValueError(
            f"loss.kind={config.loss.kind} has a variational bound, which takes a chain of steps; "
            f"schedule.name={config.schedule.name} is continuous. Set loss.kind=simple"
        )
    model = build.make_model(config)
    model.check(config.data.resolution)
    if timesteps.part == "vlb" and not (loss.needs_bound or model.learns_variance):
        raise ValueError(
            f"timesteps.{config.timesteps.name}.part=vlb is of a bound, which "
            f"loss.kind={config.loss.kind} of this model does not have. Set part=loss"
        )
    if config.loss.kind == "vlb" and config.loss.vlb.variance != "small" and model.learns_variance:
        raise ValueError(
            f"loss.vlb.variance={config.loss.vlb.variance} is of models that learn no variance, "
            "and this one does. Set loss.vlb.variance=small"
        )
    if loss.of_classes != model.classifies:
        kind = "cross_entropy" if model.classifies else "simple"
        verb = "classifies" if model.classifies else "draws"
        raise ValueError(
            f"model.name={config.model.name} {verb} images, and "
            f"loss.kind={config.loss.kind} does not train that. Set loss.kind={kind}"
        )
    if loss.needs_variance and not model.learns_variance:
        raise ValueError(
            f"loss.kind={config.loss.kind} trains a variance, which this model does not have. Set "
            "loss.kind=simple"
        )


def _built(where: str, build: Callable[[ConfigDict], Any], config: ConfigDict) -> Any:
    """What is built from the config. Raises ValueError, with the section at fault, if it cannot."""
    try:
        return build(config)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    except TypeError as error:  # a text where a number belongs
        raise ValueError(f"{where} has an option of a wrong type: {error}") from None


def _try_weight(config: ConfigDict) -> None:
    """Traces the weight of the loss, which checks its options; no device is touched."""
    number = jax.ShapeDtypeStruct((1,), np.float32)
    jax.eval_shape(build.make_weight(config), Level(number, number, number), number)


def _same_keys(where: str, section: Any, known: Iterable[str]) -> None:
    if not isinstance(section, ConfigDict):
        text = " ".join(str(section).split())[:MOST_SHOWN]
        raise ValueError(f"{where}={text} must be a section; start from configs/base.py")
    given, known = set(section.keys()), set(known)
    if unknown := given - known:
        names, first = ", ".join(sorted(known)), str(min(unknown))[:MOST_SHOWN]
        hint = ""
        if where == "config.model":
            hint = (
                f" (of {section.get('name')}; configs/digits.py:NAME shows how to choose another)"
            )
        raise ValueError(f"Unknown key {where}.{first}; known keys: {names}{hint}")
    if missing := known - given:
        raise ValueError(f"{where}.{min(missing)} is missing; start from configs/base.py")
