"""Workdirs of imported runs, and the record of their origin."""

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from diffusion_jax.files import json_files, write_access
from diffusion_jax.training.checkpoints import Checkpoints
from diffusion_jax.training.state import TrainState
from diffusion_jax.workdir.run_files import CHECKPOINTS, save_classes, save_config

ORIGIN_FILE = "imported.json"


def write_workdir(
    workdir: Path,
    config: ConfigDict,
    state: TrainState,
    origin: dict[str, Any],
    class_names: Sequence[str],
) -> None:
    """Writes config, checkpoint and origin; the folder appears once it is complete.

    model.dtype=auto becomes float32, in which networks are compared with their originals.

    Raises ValueError if the workdir exists and is not empty, or the disk has too little space.
    """
    check_free(workdir)
    if config.model.get("dtype") == "auto":
        config = config.copy_and_resolve_references()
        config.model.dtype = "float32"
    workdir = workdir.resolve()
    workdir.parent.mkdir(parents=True, exist_ok=True)
    needed = sum(array.nbytes for array in jax.tree.leaves(state))
    free = shutil.disk_usage(workdir.parent).free
    if free < needed:
        raise ValueError(
            f"{workdir.parent} has {free / 1e9:.1f} GB free, and the checkpoint takes up to "
            f"{needed / 1e9:.1f} GB; choose another --workdir"
        )
    partial = workdir.with_name(f"{workdir.name}.importing-{os.getpid()}")
    partial.mkdir()
    try:
        with Checkpoints(partial / CHECKPOINTS, create=True) as checkpoints:
            checkpoints.save(int(state.step), state)
        (partial / ORIGIN_FILE).write_text(json.dumps(origin, indent=2) + "\n")
        save_config(config, partial)
        save_classes(class_names, partial)
        if workdir.exists():
            workdir.rmdir()
        partial.rename(workdir)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def check_free(folder: Path, flag: str = "workdir") -> None:
    """Raises ValueError if the folder of the flag is not empty or cannot be written."""
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise ValueError(f"--{flag}={folder} already exists; choose another, or delete it")
    write_access.check(folder, f"--{flag}", folder=True)


def read_origin(workdir: Path) -> dict[str, int]:
    """Returns "epoch" and "step" in the original program, and "imported_as", the step here.

    Keys without a value are missing; a run that was not imported has none. Raises ValueError if
    the record is damaged.
    """
    path = workdir / ORIGIN_FILE
    if not path.exists():
        return {}
    origin = json_files.read_object(path, remedy="delete it, or restore it")
    found = {name: origin[name] for name in ("epoch", "step", "imported_as") if name in origin}
    if not all(isinstance(number, int) for number in found.values()):
        raise ValueError(f"{path} is damaged: it has {found}; delete it, or restore it")
    return found
