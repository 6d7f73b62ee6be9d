"""Workdirs made from the checkpoints of other programs, and what exporting one reads."""

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
from jaxtyping import PyTree
from ml_collections import ConfigDict

from diffusion_jax.config.experiment import Experiment, make_model
from diffusion_jax.files import json_files, write_access
from diffusion_jax.training.checkpoints import Checkpoints
from diffusion_jax.training.state import TrainState, init_state
from diffusion_jax.workdir.classes import save_classes
from diffusion_jax.workdir.config import save_config
from diffusion_jax.workdir.layout import CHECKPOINTS

# Records the source of an imported checkpoint.
ORIGIN_FILE = "imported.json"


@dataclass(frozen=True)
class AdamState:
    """The state of AdamW: number of updates, and the first and second moment estimates."""

    count: int
    mu: PyTree
    nu: PyTree


def imported_state(
    config: ConfigDict,
    params: PyTree,
    step: int,
    adam: AdamState | None = None,
    averaged: PyTree = None,
) -> TrainState:
    """The training state at `step`, on the host.

    adam: the optimizer's state; None: freshly initialized. averaged: the EMA parameters; None: the
    same as the parameters.
    """
    training = Experiment.from_config(config).require_training()
    shapes = jax.eval_shape(training.optimizer.init, params)
    opt_state = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    if adam is not None:
        count = np.array(adam.count, np.int32)
        opt_state = optax.tree.set(opt_state, count=count, mu=adam.mu, nu=adam.nu)
    averaged = params if averaged is None else averaged
    return TrainState(np.array(step, np.int32), params, averaged, opt_state)


def write_workdir(
    workdir: Path,
    config: ConfigDict,
    state: TrainState,
    origin: dict[str, Any],
    class_names: Sequence[str],
) -> None:
    """Writes config, checkpoint and origin; the folder appears only once it is complete.

    Raises ValueError if the workdir exists and is not empty, or the disk has too little space.
    """
    check_free(workdir)
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
    """Raises ValueError if the folder, which the flag names, is not empty or cannot be written."""
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise ValueError(f"--{flag}={folder} already exists; choose another, or delete it")
    write_access.check(folder, f"--{flag}", folder=True)


def read_weights(
    workdir: Path, config: ConfigDict, *, checkpoint: int | None, raw: bool
) -> tuple[int, PyTree, AdamState | None]:
    """(step, parameters, AdamW state) of a checkpoint, on the host.

    checkpoint: its step; None: the newest. raw: the raw parameters and their optimizer state, None
    if it has made no update; otherwise the EMA parameters and None.
    """

    def fresh() -> TrainState:
        training = Experiment.from_config(config).require_training()
        return init_state(
            make_model(config), training.optimizer, config.seed, config.data.resolution
        )

    like = jax.eval_shape(fresh)
    with Checkpoints(workdir / CHECKPOINTS) as checkpoints:
        step = checkpoints.newest() if checkpoint is None else checkpoint
        if not raw:
            return step, checkpoints.restore_params(step, like.params, ema=True), None
        state = checkpoints.restore(step, like)
    parts = jax.tree.leaves(state.opt_state, is_leaf=_is_adam)
    (adam,) = filter(_is_adam, parts)
    updates = int(adam.count)
    return step, state.params, AdamState(updates, adam.mu, adam.nu) if updates else None


def _is_adam(part: Any) -> bool:
    return isinstance(part, optax.ScaleByAdamState)


def origin_of(workdir: Path) -> dict[str, int]:
    """The original epoch and step of an imported run, if it had them, and its step here.

    {} for other runs.

    Raises ValueError if the file that records them is damaged.
    """
    path = workdir / ORIGIN_FILE
    if not path.exists():
        return {}
    origin = json_files.read_object(path, remedy="delete it, or restore it")
    found = {name: origin[name] for name in ("epoch", "step", "imported_as") if name in origin}
    if not all(isinstance(number, int) for number in found.values()):
        raise ValueError(f"{path} is damaged: it has {found}; delete it, or restore it")
    return found
