"""What a config builds, and how it is stored as JSON beside its run.

A section of a config holds the arguments of one constructor, see `runs/sections.py`.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
from ml_collections import ConfigDict

from diffusion_jax.data import Source, batches, make_source
from diffusion_jax.data.cache import Batch
from diffusion_jax.data.crops import RandomResizedCrop
from diffusion_jax.diffusion import paths, schedules
from diffusion_jax.diffusion.parametrisations import PARAMETRISATIONS, Parametrisation
from diffusion_jax.diffusion.weights import WEIGHTS, Weight
from diffusion_jax.models import MODELS, Network
from diffusion_jax.runs.older_configs import upgraded
from diffusion_jax.runs.sections import options_in
from diffusion_jax.sampling import SOLVERS, Solver, make_path
from diffusion_jax.training.optimizers import adamw

CONFIG_FILE = "config.json"
CLASSES_FILE = "classes.txt"
CHECKPOINTS = "checkpoints"

# What `make_source` is not told: these belong to the order of the examples.
OF_THE_PIPELINE = ("flip", "drop_last", "smallest_crop", "threads")


def make_model(config: ConfigDict) -> Network:
    """The network of a config: `MODELS[name](**the rest of the section)`."""
    fields = config.model.to_dict()
    return MODELS[fields.pop("name")](**fields)


def make_optimizer(config: ConfigDict) -> optax.GradientTransformation:
    return adamw(**config.optimizer)


def make_schedule(config: ConfigDict) -> schedules.Schedule:
    """The schedule to train with."""
    schedule = config.schedule
    return schedules.make_schedule(
        schedule.name,
        schedule.num_steps,
        schedule.behaviour,
        **options_in(schedule, schedule.name),
    )


def make_parametrisation(config: ConfigDict) -> Parametrisation:
    name = config.parametrisation
    return PARAMETRISATIONS[name](**options_in(config.parametrisations, name))


def make_weight(config: ConfigDict) -> Weight:
    """The weight of the loss, with its options filled in."""
    name = config.loss.weight
    return partial(WEIGHTS[name], **options_in(config.loss, name))


def make_solver(config: ConfigDict) -> Solver:
    name = config.sampling.solver
    return SOLVERS[name](**options_in(config.sampling, name))


def make_sampling_path(config: ConfigDict) -> paths.Path:
    """The levels to visit when sampling."""
    sampling = config.sampling
    return make_path(
        make_schedule(config),
        steps=sampling.steps,
        stride=sampling.stride,
        spacing=sampling.spacing,
        to_clean_image=make_solver(config).conventions.to_clean_image,
        **options_in(sampling, sampling.spacing),
    )


def open_source(config: ConfigDict) -> Source:
    """The data source, once it is known to fit the model. Raises ValueError if it does not."""
    data, model = config.data, config.model
    arguments = {name: value for name, value in data.items() if name not in OF_THE_PIPELINE}
    source = make_source(channels=model.channels, num_classes=model.num_classes, **arguments)
    shape = source.description.shape
    wanted = (data.resolution, data.resolution, model.channels)
    if shape not in (wanted, (0, 0, model.channels)):
        raise ValueError(
            f"{data.name} has images of (height, width, channels) = {shape}, but data.resolution "
            f"and model.channels say {wanted}"
        )
    return source


def training_batches(config: ConfigDict, source: Source, start: int = 0) -> Iterator[Batch]:
    """This process's part of the batches, from that at position `start` on."""
    data, crop = config.data, None
    if not source.description.shape[0]:
        crop = RandomResizedCrop(data.resolution, data.smallest_crop)
    return batches(
        source,
        batch_size=config.batch_size,
        seed=config.seed,
        flip=data.flip,
        drop_last=data.drop_last,
        crop=crop,
        start=start,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
        threads=data.threads,
    )


def read_squares(config: ConfigDict, source: Source, indices: np.ndarray) -> np.ndarray:
    """The images with these indices; of those that are cut at random, always the same part."""
    pixels = source.read(indices)["image"]
    if source.description.shape[0]:
        return pixels
    crop = RandomResizedCrop(config.data.resolution, config.data.smallest_crop)
    return crop(pixels, [np.random.default_rng([config.seed, index, 2]) for index in indices])


def set_sampling(
    config: ConfigDict, given: Mapping[str, Any], options: Mapping[str, Any] | None = None
) -> None:
    """Changes the fields of config.sampling that are given, that is, not None.

    options: of the solver, likewise. With another solver, clip becomes that one's own default.
    Raises ValueError if both steps and stride are given, and for an option that the solver does not
    have.
    """
    sampling = config.sampling
    if given.get("steps") is not None and given.get("stride") is not None:
        raise ValueError("--steps and --stride were both given; choose one")
    if given.get("steps") is not None:
        sampling.stride = 0
    solver = given.get("solver")
    if solver is not None and solver not in SOLVERS:
        raise ValueError(f"Unknown solver {solver!r}; known solvers: {', '.join(SOLVERS)}")
    if solver not in (None, sampling.solver) and given.get("clip") is None:
        sampling.clip = SOLVERS[solver]().conventions.clip
    sampling.update({name: value for name, value in given.items() if value is not None})
    known = options_in(sampling, sampling.solver)
    for name, value in (options or {}).items():
        if value is None:
            continue
        if name not in known:
            raise ValueError(
                f"{name}={value} was given, which the solver {sampling.solver} does not know; its "
                f"options: {', '.join(known) or 'none'}"
            )
        sampling[sampling.solver][name] = value


def sampling_settings(config: ConfigDict) -> dict[str, Any]:
    """What decides how images are drawn: settings, and the options of what they name, flat."""
    sampling = config.sampling
    names = ("solver", "steps", "stride", "spacing", "guidance", "clip")
    chosen = {name: sampling[name] for name in names}
    for name in (sampling.solver, sampling.spacing):
        chosen |= options_in(sampling, name)
    return chosen


def save(config: ConfigDict, workdir: Path, class_names: Sequence[str]) -> None:
    """Writes config.json and, if there are classes, classes.txt, each whole or not at all."""
    texts = {CONFIG_FILE: json.dumps(config.to_dict(), indent=2)}
    if class_names:
        texts[CLASSES_FILE] = "\n".join(class_names)
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
        values = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is not readable as JSON: {error}") from None
    if not isinstance(values, dict):
        raise ValueError(f"{path} does not hold a config: it is no JSON object")
    return upgraded(values).lock()


def flatten(section: Mapping | ConfigDict, prefix: str = "") -> dict[str, Any]:
    """The values by dotted name, such as "model.width"."""
    values = {}
    for name, value in section.items():
        if isinstance(value, Mapping | ConfigDict):
            values.update(flatten(value, f"{prefix}{name}."))
        else:
            values[prefix + name] = value
    return values


def differences(old: ConfigDict, new: ConfigDict) -> list[str]:
    """What changed, as lines such as "model.width: 128 -> 64"."""
    before, after = flatten(old), flatten(new)
    return [
        f"{name}: {before.get(name)} -> {after.get(name)}"
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    ]
