"""Parameters of a trained network, from the checkpoints of a run or a packaged model."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, cast

import jax
import numpy as np
from jaxtyping import PyTree
from ml_collections import ConfigDict

from diffusion_jax import parallel
from diffusion_jax.config.experiment import Experiment
from diffusion_jax.files import npz
from diffusion_jax.training.checkpoints import Checkpoints
from diffusion_jax.training.state import param_shapes
from diffusion_jax.workdir.run_files import (
    CHECKPOINTS,
    PRETRAINED,
    resolve_workdir,
    save_classes,
    save_config,
)

# Of packaged models.
PARAMS = "params.npz"  # the EMA parameters, in float16
STEP = "step"  # an entry beside them


def load_params(
    workdir: Path, experiment: Experiment, *, checkpoint: int | None = None, ema: bool = True
) -> tuple[int, PyTree]:
    """Loads (step, parameters) of one checkpoint of a run, on every device.

    Args:
        workdir: of the run, or the name of a packaged model, which has EMA parameters alone.
        experiment: of the run.
        checkpoint: its step; None for the newest.
        ema: True for the EMA parameters, False for the raw ones.

    Raises:
        FileNotFoundError: if there is no such checkpoint.
        ValueError: if it is of another model, or `ema` is no bool.
    """
    if not isinstance(ema, bool):
        raise ValueError(
            f"ema={ema!r} must be True, for the EMA parameters, or False, for the raw ones"
        )
    like = param_shapes(experiment.model, experiment.config.data.resolution)
    if _is_pretrained(workdir):
        if not ema:
            raise ValueError(
                f"{workdir} is a packaged model with EMA parameters alone; use ema=True, or "
                "--params ema"
            )
        step = find_steps(workdir, [] if checkpoint is None else [checkpoint])[0]
        params = read_params(resolve_workdir(workdir), like)
        return step, parallel.replicate(params)
    with Checkpoints(workdir / CHECKPOINTS) as checkpoints:
        step = checkpoints.newest() if checkpoint is None else checkpoint
        return step, parallel.replicate(checkpoints.restore_params(step, like, ema=ema))


def find_steps(workdir: Path, wanted: Sequence[int] | Literal["all"] = ()) -> list[int]:
    """Returns steps of a run's checkpoints: the wanted ones, all, or the newest by default.

    workdir: see `load_params`. Raises FileNotFoundError if one is missing.
    """
    if _is_pretrained(workdir):
        steps = [read_step(resolve_workdir(workdir))]
        newest = steps[0]
    else:
        with Checkpoints(workdir / CHECKPOINTS) as saved:
            newest, steps = saved.newest(), saved.steps()
    chosen = steps if wanted == "all" else list(dict.fromkeys(wanted)) or [newest]
    if missing := set(chosen) - set(steps):
        known = ", ".join(map(str, steps))
        raise FileNotFoundError(
            f"No checkpoint of step {min(missing)} in {workdir}; there: {known}"
        )
    return chosen


def _is_pretrained(workdir: Path) -> bool:
    return resolve_workdir(workdir).parent == PRETRAINED


def digest(params: PyTree) -> str:
    """Computes the SHA-256 of the parameters, which identifies them in results."""
    total = hashlib.sha256()
    for leaf in jax.tree.leaves(jax.device_get(params)):
        total.update(cast(Any, np.ascontiguousarray(leaf)))
    return total.hexdigest()


def read_step(folder: Path) -> int:
    """Reads the number of training steps of a packaged model."""
    return int(npz.read(folder / PARAMS)[STEP])


def read_params(folder: Path, like: PyTree) -> PyTree:
    """Reads the parameters of a packaged model into host arrays of the types of `like`."""
    arrays = npz.read(folder / PARAMS)
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: arrays[_name(path)].astype(leaf.dtype), like
    )


def write(
    folder: Path, config: ConfigDict, class_names: list[str], step: int, params: PyTree
) -> None:
    """Writes the folder of a packaged model."""
    folder.mkdir(parents=True, exist_ok=True)
    save_config(config, folder)
    save_classes(class_names, folder)
    leaves = jax.tree_util.tree_leaves_with_path(jax.device_get(params))
    arrays = {_name(path): np.asarray(leaf, np.float16) for path, leaf in leaves}
    npz.write(folder / PARAMS, arrays | {STEP: np.array(step)})


def _name(path: tuple) -> str:
    return "/".join(part.key for part in path)
