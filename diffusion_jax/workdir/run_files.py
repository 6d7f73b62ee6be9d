"""Config and class names of a run: config.json and classes.txt in its workdir.

The models that come with the package have folders of the same form.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from ml_collections import ConfigDict

from diffusion_jax.config import schema
from diffusion_jax.config.named_configs import get_config
from diffusion_jax.files import atomic, json_files, limits

CONFIG_FILE = "config.json"
CLASSES_FILE = "classes.txt"
CHECKPOINTS = "checkpoints"
# One folder for each model: config.json, classes.txt and the parameters.
PRETRAINED = Path(__file__).parent.parent / "pretrained"


def pretrained_names() -> list[str]:
    """Names of the models that come with the package."""
    return sorted(path.parent.name for path in PRETRAINED.glob(f"*/{CONFIG_FILE}"))


def resolve_workdir(workdir: Path) -> Path:
    """Returns the workdir, or the package's folder if it is the name of one of its models."""
    if not (workdir / CONFIG_FILE).is_file() and str(workdir) in pretrained_names():
        return PRETRAINED / workdir
    return workdir


def next_folder(parent: Path) -> Path:
    """Returns the next free one of parent/0001, 0002, ..."""
    taken = [int(path.name) for path in parent.glob("[0-9]*") if path.name.isdecimal()]
    return parent / f"{max(taken, default=0) + 1:04d}"


def save_config(config: ConfigDict, workdir: Path) -> None:
    """Writes config.json, atomically."""
    text = json.dumps(config.to_dict(), indent=2) + "\n"
    atomic.write_text(workdir / CONFIG_FILE, text)


def load_config(workdir: Path) -> ConfigDict:
    """Reads the config of a run, locked.

    workdir: or the name of a model that comes with the package. Raises FileNotFoundError if there
    is no config, ValueError if it is not readable.
    """
    path = resolve_workdir(workdir) / CONFIG_FILE
    if not path.is_file():
        raise FileNotFoundError(f"{workdir} is not the workdir of a run: {_reason(workdir)}")
    values = json_files.read_object(path, remedy="restore it from a copy")
    try:
        return schema.from_values(values, get_config("base")).lock()
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        reason = limits.one_line(error)
        raise ValueError(
            f"{path} is not the config of a run: {reason}; restore it from a copy"
        ) from None


def _reason(workdir: Path) -> str:
    """Returns why there is no run in `workdir`, and what to give in its place."""
    packaged = f"the models that come with the package are {', '.join(pretrained_names())}"
    for run in list(workdir.parents)[:2]:
        if (run / CONFIG_FILE).is_file():
            step = f" with checkpoint={workdir.name}" if workdir.name.isdecimal() else ""
            return f"it is a part of the run {run}; give {run}{step}"
    if workdir.is_file():
        return (
            "it is a file, and a folder was expected; scripts.convert makes a run of another "
            "program's checkpoint"
        )
    if workdir.is_dir():
        return f"it has no {CONFIG_FILE}; {packaged}"
    return f"there is no such folder; {packaged}"


def differences(old: ConfigDict, new: ConfigDict) -> list[str]:
    """Lists the changed fields, as lines such as "model.width: 128 -> 64"."""
    before, after = schema.flatten(old), schema.flatten(new)
    return [
        f"{name}: {before.get(name)} -> {after.get(name)}"
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    ]


def save_classes(class_names: Sequence[str], workdir: Path) -> None:
    """Writes classes.txt, unless there are no classes."""
    if class_names:
        atomic.write_text(workdir / CLASSES_FILE, "\n".join(class_names) + "\n")


def load_classes(workdir: Path) -> list[str]:
    """Reads the class names of a run; an unconditional run has none.

    Raises ValueError if the file is not text, or far too long for names.
    """
    path = resolve_workdir(workdir) / CLASSES_FILE
    if not path.exists():
        return []
    try:
        return limits.read_bytes(path).decode().split("\n")[:-1]
    except ValueError as error:
        raise ValueError(
            f"{path} does not hold the names of classes: {error}; restore it from a copy"
        ) from None
