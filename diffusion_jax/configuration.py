"""Configs as the library sees them: checked before anything starts, kept as JSON beside the run.

A section of a config holds the arguments of one constructor: `UNet(**config.model)`.
"""

import inspect
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optax
from ml_collections import ConfigDict

from diffusion_jax.data import make_source
from diffusion_jax.losses import LOSSES
from diffusion_jax.models import UNet
from diffusion_jax.models.unet import parse_blocks
from diffusion_jax.optimizers import adamw
from diffusion_jax.schedules import Schedule, make_schedule, sampling_schedule

CONFIG_FILE = "config.json"
CLASSES_FILE = "classes.txt"
CHECKPOINTS = "checkpoints"
BEHAVIOURS = ("corrected", "reference")
DTYPES = ("float32", "bfloat16")

SECTIONS = ("data", "model", "schedule", "loss", "optimizer", "sampling")
RUN = ("behaviour", "seed", "batch_size", "micro_batches", "steps", "label_dropout", "ema_decay")
EVERY = ("log_every", "sample_every", "checkpoint_every", "keep_latest", "keep_every")
LOSS = ("kind", "vlb_weight")
DATA = ("name", "split", "data_dir", "resolution", "flip", "threads")
SAMPLING = ("steps", "stride", "spacing", "eta", "guidance", "clip", "grid_rows", "grid_columns")


def validate(config: ConfigDict) -> None:
    """Raises ValueError for the first mistake in the config. Touches neither data nor devices."""
    _same_keys("config", config.keys(), (*SECTIONS, *RUN, *EVERY))
    _same_keys("config.model", config.model.keys(), _arguments(UNet), optional=("parent", "name"))
    _same_keys("config.schedule", config.schedule.keys(), _arguments(make_schedule))
    _same_keys("config.loss", config.loss.keys(), LOSS)
    _same_keys("config.optimizer", config.optimizer.keys(), _arguments(adamw))
    _same_keys("config.data", config.data.keys(), DATA)
    _same_keys("config.sampling", config.sampling.keys(), SAMPLING)

    model = config.model
    _one_of("behaviour", config.behaviour, BEHAVIOURS)
    _one_of("model.dtype", model.dtype, DTYPES)
    _one_of("loss.kind", config.loss.kind, LOSSES)
    for name in ("batch_size", "micro_batches", "steps", *EVERY[:-1]):
        _check(name, config[name], config[name] >= 1, "at least 1")
    for name in ("channels", "width", "levels", "time_dim", "label_dim", "window", "num_heads"):
        _check(f"model.{name}", model[name], model[name] >= 1, "at least 1")
    for name in ("resolution", "threads"):
        _check(f"data.{name}", config.data[name], config.data[name] >= 1, "at least 1")
    for name in ("grid_rows", "grid_columns"):
        _check(f"sampling.{name}", config.sampling[name], config.sampling[name] >= 1, "at least 1")
    steps, rate = config.schedule.num_steps, config.optimizer.learning_rate
    _check("schedule.num_steps", steps, steps >= 2, "at least 2")
    _check("optimizer.learning_rate", rate, rate > 0, "positive")
    for name, value in (
        ("label_dropout", config.label_dropout),
        ("ema_decay", config.ema_decay),
        ("model.dropout", model.dropout),
    ):
        _check(name, value, 0 <= value < 1, "in [0, 1)")
    for name, value in (
        ("model.growth", model.growth),
        ("sampling.guidance", config.sampling.guidance),
        ("loss.vlb_weight", config.loss.vlb_weight),
        ("model.num_classes", model.num_classes),
        ("keep_every", config.keep_every),
        ("sampling.stride", config.sampling.stride),
        ("optimizer.warmup_steps", config.optimizer.warmup_steps),
        ("optimizer.decay_steps", config.optimizer.decay_steps),
        ("optimizer.clip_norm", config.optimizer.clip_norm),
        ("optimizer.weight_decay", config.optimizer.weight_decay),
    ):
        _check(name, value, value >= 0, "at least 0")
    warmup, decay = config.optimizer.warmup_steps, config.optimizer.decay_steps
    if decay and warmup >= decay:
        raise ValueError(
            f"optimizer.warmup_steps={warmup} must be less than optimizer.decay_steps={decay}"
        )
    _check("sampling.eta", config.sampling.eta, 0 <= config.sampling.eta <= 1, "in [0, 1]")
    _check_model(config)
    if config.batch_size % config.micro_batches:
        raise ValueError(
            f"batch_size={config.batch_size} is not divisible by "
            f"micro_batches={config.micro_batches}"
        )
    # Building them is cheap, and they know their own limits.
    make_schedules(config)


def _check_model(config: ConfigDict) -> None:
    model, resolution = config.model, config.data.resolution
    blocks = parse_blocks(model.blocks)
    if not model.num_classes and "clsAtn" in blocks:
        raise ValueError(
            f"model.blocks={model.blocks!r} has the block 'clsAtn', which needs classes, but "
            "model.num_classes is 0; drop the block or set the number of classes"
        )
    if model.width % 4:
        raise ValueError(f"model.width={model.width} is not divisible by 4 (groups of channels)")
    if model.time_dim % 2:
        raise ValueError(f"model.time_dim={model.time_dim} is not even (sine and cosine halves)")
    if resolution % 2**model.levels:
        raise ValueError(
            f"data.resolution={resolution} is not divisible by 2^model.levels = {2**model.levels}; "
            "lower model.levels or choose another resolution"
        )
    for level in range(model.levels + 1):
        side = resolution // 2**level
        if "atn" in blocks and side > model.window and side % model.window:
            raise ValueError(
                f"The block 'atn' cuts maps of {side}x{side} (level {level}) into squares of "
                f"model.window={model.window}, which does not divide them"
            )


def make_model(config: ConfigDict) -> UNet:
    return UNet(**config.model)


def make_optimizer(config: ConfigDict) -> optax.GradientTransformation:
    return adamw(**config.optimizer)


def make_schedules(config: ConfigDict) -> tuple[Schedule, Schedule]:
    """(the schedule to train with, the respaced one to sample with)."""
    schedule = make_schedule(**config.schedule)
    sampling = config.sampling
    respaced = sampling_schedule(
        schedule, steps=sampling.steps, stride=sampling.stride, spacing=sampling.spacing
    )
    return schedule, respaced


def open_source(config: ConfigDict) -> Any:
    """The data source, once it is known to fit the model. Raises ValueError if it does not."""
    data, model = config.data, config.model
    source = make_source(data.name, split=data.split, data_dir=data.data_dir)
    classes = len(source.class_names)
    if model.num_classes and model.num_classes != classes:
        raise ValueError(
            f"model.num_classes={model.num_classes}, but {data.name} has {classes} classes"
        )
    shape = source.read(np.array([0]))["image"].shape[1:]
    wanted = (data.resolution, data.resolution, model.channels)
    if shape != wanted:
        raise ValueError(
            f"{data.name} has images of (height, width, channels) = {shape}, but data.resolution "
            f"and model.channels say {wanted}"
        )
    return source


def save(config: ConfigDict, workdir: Path, class_names: Sequence[str]) -> None:
    """Writes config.json and classes.txt, each whole or not at all."""
    texts = {
        CONFIG_FILE: json.dumps(config.to_dict(), indent=2),
        CLASSES_FILE: "\n".join(class_names),
    }
    for name, text in texts.items():
        partial = workdir / (name + ".tmp")
        partial.write_text(text + "\n")
        partial.replace(workdir / name)


def class_names(workdir: Path) -> list[str]:
    """The names of the classes of a run, in the order of their labels; none if it has none."""
    path = workdir / CLASSES_FILE
    return path.read_text().split("\n")[:-1] if path.exists() else []


def load(workdir: Path) -> ConfigDict:
    """The config of a run. Raises FileNotFoundError or ValueError if there is none to read."""
    path = workdir / CONFIG_FILE
    if not path.is_file():
        raise FileNotFoundError(f"{workdir} is not the workdir of a run: it has no {CONFIG_FILE}")
    try:
        return ConfigDict(json.loads(path.read_text())).lock()
    except ValueError as error:
        raise ValueError(f"{path} is not readable as JSON: {error}") from None


def differences(old: ConfigDict, new: ConfigDict) -> list[str]:
    """What changed, as lines such as "model.width: 128 -> 64"."""

    def flat(section: dict, prefix: str = "") -> dict[str, Any]:
        values = {}
        for name, value in section.items():
            if isinstance(value, dict):
                values.update(flat(value, f"{prefix}{name}."))
            else:
                values[prefix + name] = value
        return values

    before, after = flat(old.to_dict()), flat(new.to_dict())
    return [
        f"{name}: {before.get(name)} -> {after.get(name)}"
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    ]


def _arguments(function: Callable) -> list[str]:
    return list(inspect.signature(function).parameters)


def _same_keys(
    where: str, given: Iterable[str], known: Iterable[str], optional: Iterable[str] = ()
) -> None:
    given, known, optional = set(given), set(known), set(optional)
    if unknown := given - known:
        names = ", ".join(sorted(known - optional))
        raise ValueError(f"Unknown key {where}.{min(unknown)}; known keys: {names}")
    if missing := known - given - optional:
        raise ValueError(f"{where}.{min(missing)} is missing; start from configs/base.py")


def _one_of(name: str, value: str, known: Iterable[str]) -> None:
    if value not in known:
        raise ValueError(f"Unknown {name} {value!r}; known: {', '.join(known)}")


def _check(name: str, value: Any, holds: bool, wanted: str) -> None:
    if not holds:
        raise ValueError(f"{name}={value} must be {wanted}")
