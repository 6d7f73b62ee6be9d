"""The folder of a run: its config and the names of its classes, written whole or not at all.

A model that comes with the package is read like a run whose folder has the model's name.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from diffusion_jax.files import archive, atomic, json_object
from diffusion_jax.runs.older_configs import upgraded

CONFIG_FILE = "config.json"
CLASSES_FILE = "classes.txt"
FILES = (CONFIG_FILE, CLASSES_FILE)
CHECKPOINTS = "checkpoints"
# A folder for each model that comes with the package: its FILES, and its parameters.
PRETRAINED = Path(__file__).parent.parent / "pretrained"


def save(config: ConfigDict, workdir: Path, class_names: Sequence[str]) -> None:
    """Writes config.json and, if there are classes, classes.txt, each whole or not at all."""
    texts = {CONFIG_FILE: json.dumps(config.to_dict(), indent=2)}
    if class_names:
        texts[CLASSES_FILE] = "\n".join(class_names)
    for name, text in texts.items():
        atomic.write_text(workdir / name, text + "\n")


def class_names(workdir: Path) -> list[str]:
    """The names of the classes of a run, in the order of their labels; none if it has none.

    Raises ValueError if the file is no text, or far too long for names.
    """
    path = source(workdir) / CLASSES_FILE
    if not path.exists():
        return []
    with path.open("rb") as file:
        text = file.read(json_object.LONGEST + 1)
    try:
        if len(text) > json_object.LONGEST:
            raise ValueError(f"it is longer than {json_object.LONGEST:,} bytes")
        return text.decode().split("\n")[:-1]
    except ValueError as error:
        raise ValueError(
            f"{path} does not hold the names of classes: {error}; restore it from a copy"
        ) from None


def load(workdir: Path) -> ConfigDict:
    """The config of a run. Raises FileNotFoundError or ValueError if there is none to read."""
    path = source(workdir) / CONFIG_FILE
    if not path.is_file():
        what = "it has no config.json" if workdir.is_dir() else "there is no such folder"
        raise FileNotFoundError(
            f"{workdir} is not the workdir of a run: {what}. Nor is it a model that comes with the "
            f"package: {', '.join(pretrained())}"
        )
    values = json_object.read(path, remedy="restore it from a copy")
    try:
        return upgraded(values).lock()
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        reason = archive.reason(error)
        raise ValueError(
            f"{path} is no config of a run: {reason}; restore it from a copy"
        ) from None


def pretrained() -> list[str]:
    """The names of the models that come with the package."""
    return sorted(path.parent.name for path in PRETRAINED.glob(f"*/{CONFIG_FILE}"))


def source(workdir: Path) -> Path:
    """Where a run is read: its workdir, or the package's folder of the model of that name."""
    if not (workdir / CONFIG_FILE).is_file() and str(workdir) in pretrained():
        return PRETRAINED / workdir
    return workdir


def next_folder(parent: Path) -> Path:
    """parent/0001, 0002, ...: the number after the last."""
    taken = [int(path.name) for path in parent.glob("[0-9]*") if path.name.isdecimal()]
    return parent / f"{max(taken, default=0) + 1:04d}"


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
