"""What `scripts.convert` does, as functions: imports into workdirs, and exports of them."""

from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict


def import_program(
    name: str, model: Path, workdir: Path, config: ConfigDict, given: dict[str, Any]
) -> None:
    """Writes a run from one file of the program `name`, a key of PROGRAMS.

    config: where to start from. given: its fields that flags have set, by dotted name. Raises
    ValueError if the file says otherwise, is damaged or does not fit the config.
    """
    from diffusion_jax.importers import imported_run
    from diffusion_jax.importers.imported import with_settings
    from diffusion_jax.importers.programs import PROGRAMS

    imported_run.check_free(workdir)
    if not model.is_file():
        raise FileNotFoundError(f"--model={model}: there is no such file")
    program = PROGRAMS[name]
    print(f"Reading {model}", flush=True)
    imported = program.read(model, config)
    for field, value in imported.settings.items():
        if field in given and given[field] != value:
            raise ValueError(f"--config.{field}={given[field]} was given, and {model} says {value}")
    config = _valid(with_settings(config, imported.settings), imported.step)
    state = imported_run.imported_state(
        config, imported.params, imported.step, averaged=imported.averaged
    )
    origin = {"from": program.about, "model": str(model), "imported_as": imported.step}
    names = imported.class_names or _class_names(config)
    _write(workdir, config, state, origin, names, imported.notes)


def import_safetensors(model: Path, workdir: Path) -> None:
    """Writes a run from what `export_safetensors` writes."""
    from diffusion_jax.importers import imported_run, safetensors
    from diffusion_jax.workdir.classes import load_classes
    from diffusion_jax.workdir.config import load_config
    from diffusion_jax.workdir.layout import CONFIG_FILE

    imported_run.check_free(workdir)
    model = model / safetensors.FILE if model.is_dir() else model
    print(f"Reading {model}", flush=True)
    if not (model.parent / CONFIG_FILE).is_file():
        raise FileNotFoundError(
            f"{model.parent} has no {CONFIG_FILE}, which belongs beside {model.name}; "
            "--to safetensors writes both"
        )
    config = load_config(model.parent)
    step, params = safetensors.read(model, config)
    config = _valid(config, step)
    state = imported_run.imported_state(config, params, step)
    origin = {"from": "safetensors", "model": str(model), "imported_as": step}
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
    from configs import original as original_config
    from diffusion_jax.importers import imported_run, original

    imported_run.check_free(workdir)
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
    config = _valid(config, step)

    state = imported_run.imported_state(config, checkpoint.params, step, adam)
    origin = {
        "from": "gmongaras/Diffusion_models_from_scratch",
        "model": str(model),
        "optimizer": str(optimizer) if optimizer else None,
        "epoch": checkpoint.epoch,
        "step": checkpoint.step,
        "imported_as": step,
    }
    files = f"{model.name} and {hyperparameters.name}"
    notes = [f"time_embedding={time_embedding} was assumed; no file tells."]
    notes += [
        f"{files} disagree: {contradiction}; the latter was used."
        for contradiction in checkpoint.contradictions
    ]
    if adam is not None and adam.count != step:
        notes.append(f"the optimizer has made {adam.count} updates; see --grad_acc_steps.")
    _write(workdir, config, state, origin, _class_names(config), notes)


def import_statistics(mean: Path, covariance: Path, out: Path) -> None:
    """Writes an .npz from the FID statistics of the original."""
    from diffusion_jax.files import npz, write_access
    from diffusion_jax.importers import original
    from diffusion_jax.importers.original.statistics import FEATURES

    if out.suffix != ".npz":
        raise ValueError(f"--out={out} must end in .npz")
    if out.exists():
        raise ValueError(f"--out={out} exists already; choose another, or delete it")
    write_access.check(out, "--out")
    mu, sigma = original.read_statistics(mean, covariance)
    out.parent.mkdir(parents=True, exist_ok=True)
    npz.write(out, {"mu": mu, "sigma": sigma, "features": np.array(FEATURES)})
    print(f"{out}: mu {mu.shape}, sigma {sigma.shape}, of {FEATURES}.")


def export_original(workdir: Path, out: Path, *, checkpoint: int | None, raw: bool) -> None:
    """Writes a checkpoint of a run as files of gmongaras/Diffusion_models_from_scratch."""
    from diffusion_jax.files import write_access
    from diffusion_jax.importers import imported_run, original

    write_access.check(out, "--out", folder=True)
    config = _config_of(workdir)
    original.check_exportable(config)
    step, params, adam = imported_run.read_weights(workdir, config, checkpoint=checkpoint, raw=raw)
    origin = imported_run.origin_of(workdir)
    # The original counts micro-batches, and resumes at the start of an epoch.
    since = (step - origin.get("imported_as", 0)) * config.micro_batches
    paths = original.write_checkpoint(
        out,
        config,
        params,
        epoch=0 if since else origin.get("epoch", 0),
        step=origin.get("step", 0) + since,
        adam=adam,
    )
    for path in paths:
        print(path)
    if raw and adam is None:
        print("Note: no file of the optimizer: none was imported, and nothing was trained since.")
    since_may = config.model.time_embedding in ("auto", "head")
    stood = "stands since 17 May 2024" if since_may else "stood before 17 May 2024"
    print(f"Note: only the original's code as it {stood} computes this model.")
    if config.schedule.name == "linear":
        print("Note: the original's linear schedule has a bug, and differs from this run's.")


def export_safetensors(workdir: Path, out: Path, *, checkpoint: int | None, raw: bool) -> None:
    """Writes the parameters of a run as model.safetensors, with config.json and classes.txt."""
    from diffusion_jax.importers import imported_run, safetensors
    from diffusion_jax.workdir.classes import load_classes

    imported_run.check_free(out, "out")
    config = _config_of(workdir)
    step, params, _ = imported_run.read_weights(workdir, config, checkpoint=checkpoint, raw=raw)
    names = load_classes(workdir)
    for path in safetensors.write(out, config, params, step=step, class_names=names):
        print(path)


def _config_of(workdir: Path) -> ConfigDict:
    from diffusion_jax.config.experiment import Experiment
    from diffusion_jax.workdir.config import load_config

    config = load_config(workdir)
    Experiment.from_config(config)
    return config


def _valid(config: ConfigDict, step: int) -> ConfigDict:
    """Returns the config, with steps left to train. Raises ValueError if it is invalid."""
    from diffusion_jax.config.experiment import Experiment

    config = config.copy_and_resolve_references()
    if step >= config.steps:
        config.steps = step + 100_000
    Experiment.from_config(config)
    return config


CIFAR10 = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def _class_names(config: ConfigDict) -> list[str]:
    """The names of ImageNet's classes for a model of 1,000, or of those of CIFAR-10."""
    from diffusion_jax.data import imagenet

    if config.data.name == "tfds:cifar10" and config.model.num_classes == len(CIFAR10):
        return CIFAR10
    return imagenet.class_names() if config.model.num_classes == 1000 else []


def _write(workdir: Path, config: ConfigDict, state, origin: dict, class_names, notes) -> None:
    from diffusion_jax.importers import imported_run

    print(f"Writing {workdir}", flush=True)
    imported_run.write_workdir(workdir, config, state, origin, class_names)
    print(f"Imported step {int(state.step)} into {workdir}.")
    for note in notes:
        print(f"Note: {note}")
    print(f"Draw images: python -m scripts.sample --workdir {workdir}")
    print(f"Train on:    python -m scripts.train --workdir {workdir}{data_to_name(config)}")


# Resolution, channels and classes of the data that a config may name by default.
KNOWN = {
    "tfds:imagenet_resized/64x64": (64, 3, 1000),
    "imagenet64": (64, 3, 1000),
    "mnist": (28, 1, 10),
    "digits": (8, 1, 10),
}


def data_to_name(config: ConfigDict) -> str:
    """The flag that training needs besides, where the config's data are not the model's."""
    model, resolution = config.model, config.data.resolution
    channels, classes = model.channels, model.num_classes
    known = KNOWN.get(config.data.name, (resolution, channels, classes))
    fits = known[:2] == (resolution, channels) and classes in (0, known[2])
    if fits and not config.data.name.startswith("folder:"):
        return ""
    needed = f"  (a folder with {classes:,} sub-folders, its classes)" if classes else ""
    return f" --config.data.name=folder:PATH{needed}"
