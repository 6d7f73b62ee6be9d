"""Commands of `scripts.convert`: imports into workdirs, and exports from them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from configs import original as original_config
from diffusion_jax.config.experiment import Experiment
from diffusion_jax.data import imagenet
from diffusion_jax.files import npz, write_access
from diffusion_jax.importers import original, safetensors
from diffusion_jax.importers.original.statistics import FEATURES
from diffusion_jax.importers.programs import PROGRAMS
from diffusion_jax.importers.train_states import make_train_state, read_weights
from diffusion_jax.importers.workdirs import check_free, read_origin, write_workdir
from diffusion_jax.training.state import TrainState
from diffusion_jax.workdir.run_files import CONFIG_FILE, load_classes, load_config

CIFAR10 = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
# Resolution, channels and classes of datasets that configs name.
KNOWN = {
    "tfds:imagenet_resized/64x64": (64, 3, 1000),
    "imagenet64": (64, 3, 1000),
    "mnist": (28, 1, 10),
    "digits": (8, 1, 10),
}


def import_program(
    name: str, model: Path, workdir: Path, config: ConfigDict, given: dict[str, Any]
) -> None:
    """Writes a run from one file of the program `name`, a key of PROGRAMS.

    Args:
        config: describes the model; settings of the file replace its fields.
        given: fields that flags have set, by dotted name.

    Raises:
        ValueError: if the file contradicts a given field, is damaged or does not fit the config.
    """
    check_free(workdir)
    if not model.is_file():
        raise FileNotFoundError(f"--model={model} does not exist; give a file of {name}")
    program = PROGRAMS[name]
    print(f"Reading {model}", flush=True)
    imported = program.read(model, config)
    for field, value in imported.settings.items():
        if field in given and given[field] != value:
            raise ValueError(
                f"--config.{field}={given[field]} was given, but {model} has {value}; leave it out"
            )
    config = imported.experiment.config
    state = make_train_state(imported.experiment, imported.params, step=0)
    origin = {"from": program.name, "model": str(model), "imported_as": 0}
    names = imported.class_names or _class_names(config)
    _write(workdir, config, state, origin, names, imported.notes)


def import_safetensors(model: Path, workdir: Path) -> None:
    """Writes a run from the files that `export_safetensors` writes."""
    check_free(workdir)
    model = model / safetensors.FILE if model.is_dir() else model
    print(f"Reading {model}", flush=True)
    if not (model.parent / CONFIG_FILE).is_file():
        raise FileNotFoundError(
            f"{model.parent} has no {CONFIG_FILE}, which belongs beside {model.name}; "
            "--to safetensors writes both"
        )
    experiment = Experiment.from_config(load_config(model.parent))
    step, params = safetensors.read(model, experiment)
    state = make_train_state(experiment, params, step)
    origin = {"from": "safetensors", "model": str(model), "imported_as": step}
    config = _with_steps_left(experiment.config, step)
    _write(workdir, config, state, origin, load_classes(model.parent), ())


def import_original(
    model: Path,
    hyperparameters: Path,
    optimizer: Path | None,
    workdir: Path,
    *,
    time_embedding: str,
    resolution: int,
    grad_acc_steps: int,
) -> None:
    """Writes a run from the files of gmongaras/Diffusion_models_from_scratch."""
    check_free(workdir)
    print(f"Reading {model}", flush=True)
    checkpoint = original.read_checkpoint(model, hyperparameters, time_embedding=time_embedding)
    adam, optimizer_settings = None, {}
    if optimizer:
        print(f"Reading {optimizer}", flush=True)
        adam, optimizer_settings = original.read_optimizer(optimizer, checkpoint)
    step = checkpoint.step // grad_acc_steps

    config = original_config.get_config()
    config.update_from_flattened_dict(checkpoint.settings | optimizer_settings)
    config.data.resolution = resolution
    config.sampling.stride = min(config.sampling.stride, config.schedule.num_steps)
    config.micro_batches = grad_acc_steps
    config.batch_size -= config.batch_size % config.micro_batches
    experiment = Experiment.from_config(_with_steps_left(config, step))
    state = make_train_state(experiment, checkpoint.params, step, adam)
    origin = {
        "from": "gmongaras/Diffusion_models_from_scratch",
        "model": str(model),
        "optimizer": str(optimizer) if optimizer else None,
        "epoch": checkpoint.epoch,
        "step": checkpoint.step,
        "imported_as": step,
    }
    files = f"{model.name} and {hyperparameters.name}"
    notes = [f"time_embedding={time_embedding} was assumed, since no file records it."]
    notes += [
        f"{files} disagree: {contradiction}; the latter was used."
        for contradiction in checkpoint.contradictions
    ]
    if adam is not None and adam.count != step:
        notes.append(f"The optimizer has made {adam.count} updates; see --grad_acc_steps.")
    _write(workdir, experiment.config, state, origin, _class_names(config), notes)


def import_statistics(mean: Path, covariance: Path, out: Path) -> None:
    """Writes an .npz from FID statistics of the original."""
    if out.suffix != ".npz":
        raise ValueError(f"--out={out} must end in .npz")
    if out.exists():
        raise ValueError(f"--out={out} already exists; choose another, or delete it")
    write_access.check(out, "--out")
    mu, sigma = original.read_statistics(mean, covariance)
    out.parent.mkdir(parents=True, exist_ok=True)
    about = np.array(json.dumps({"features": FEATURES}))  # as `evaluation.references` reads it
    npz.write(out, {"mu": mu, "sigma": sigma, "about": about})
    print(f"{out}: mu {mu.shape}, sigma {sigma.shape}, of {FEATURES}.")


def export_original(workdir: Path, out: Path, *, checkpoint: int | None, raw: bool) -> None:
    """Writes a checkpoint of a run as files of gmongaras/Diffusion_models_from_scratch."""
    write_access.check(out, "--out", folder=True)
    experiment = Experiment.from_config(load_config(workdir))
    config = experiment.config
    original.check_exportable(config)
    step, params, adam = read_weights(workdir, experiment, checkpoint=checkpoint, raw=raw)
    origin = read_origin(workdir)
    # The original counts micro-batches, and resumes at the start of an epoch.
    since = (step - origin.get("imported_as", 0)) * config.micro_batches
    paths = original.write_checkpoint(
        out,
        experiment,
        params,
        epoch=0 if since else origin.get("epoch", 0),
        step=origin.get("step", 0) + since,
        adam=adam,
    )
    for path in paths:
        print(path)
    if raw and adam is None:
        print("Note: no file of the optimizer: none was imported, and no step was trained.")
    since_may = config.model.time_embedding in ("auto", "head")
    versions = "since" if since_may else "before"
    print(f"Note: only versions of the original {versions} 17 May 2024 compute this model.")
    if config.schedule.name == "linear":
        print("Note: the original's linear schedule has a bug, and differs from the run's.")


def export_safetensors(workdir: Path, out: Path, *, checkpoint: int | None, raw: bool) -> None:
    """Writes the parameters of a run as model.safetensors, with config.json and classes.txt."""
    check_free(out, "out")
    experiment = Experiment.from_config(load_config(workdir))
    step, params, _ = read_weights(workdir, experiment, checkpoint=checkpoint, raw=raw)
    names = load_classes(workdir)
    for path in safetensors.write(out, experiment.config, params, step=step, class_names=names):
        print(path)


def _with_steps_left(config: ConfigDict, step: int) -> ConfigDict:
    """Returns the config with steps left to train after `step`."""
    config = config.copy_and_resolve_references()
    if step >= config.steps:
        config.steps = step + 100_000
    return config


def _class_names(config: ConfigDict) -> list[str]:
    """Returns the class names of ImageNet for 1,000 classes, or of CIFAR-10; else none."""
    if config.data.name == "tfds:cifar10" and config.model.num_classes == len(CIFAR10):
        return CIFAR10
    return imagenet.class_names() if config.model.num_classes == 1000 else []


def _write(
    workdir: Path,
    config: ConfigDict,
    state: TrainState,
    origin: dict[str, Any],
    class_names: Sequence[str],
    notes: Sequence[str],
) -> None:
    """Writes the workdir, and prints notes and the next commands."""
    print(f"Writing {workdir}", flush=True)
    write_workdir(workdir, config, state, origin, class_names)
    print(f"Imported step {int(state.step)} into {workdir}.")
    for note in notes:
        print(f"Note: {note}")
    print(f"Sample: python -m scripts.sample --workdir {workdir}")
    print(f"Train:  python -m scripts.train --workdir {workdir}{data_flag(config)}")


def data_flag(config: ConfigDict) -> str:
    """Returns the flag that training needs if the config's dataset does not fit the model."""
    model, resolution = config.model, config.data.resolution
    channels, classes = model.channels, model.num_classes
    known = KNOWN.get(config.data.name, (resolution, channels, classes))
    fits = known[:2] == (resolution, channels) and classes in (0, known[2])
    if fits and not config.data.name.startswith("folder:"):
        return ""
    needed = f"  (a folder with {classes:,} sub-folders, its classes)" if classes else ""
    return f" --config.data.name=folder:PATH{needed}"
