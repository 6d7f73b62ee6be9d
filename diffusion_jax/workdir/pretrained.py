"""Parameters of the small trained models that come with the package."""

from pathlib import Path

import jax
import numpy as np
from jaxtyping import PyTree
from ml_collections import ConfigDict

from diffusion_jax.files import npz
from diffusion_jax.workdir.classes import save_classes
from diffusion_jax.workdir.config import save_config

PARAMS = "params.npz"  # the EMA parameters, in float16
STEP = "step"  # an entry beside them


def read_step(folder: Path) -> int:
    """Reads the number of training steps of a model."""
    return int(npz.read(folder / PARAMS)[STEP])


def read_params(folder: Path, like: PyTree) -> PyTree:
    """Reads the parameters of a model into host arrays of the types of `like`."""
    arrays = npz.read(folder / PARAMS)
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: arrays[_name(path)].astype(leaf.dtype), like
    )


def write(
    folder: Path, config: ConfigDict, class_names: list[str], step: int, params: PyTree
) -> None:
    """Writes the folder of a model."""
    folder.mkdir(parents=True, exist_ok=True)
    save_config(config, folder)
    save_classes(class_names, folder)
    leaves = jax.tree_util.tree_leaves_with_path(jax.device_get(params))
    arrays = {_name(path): np.asarray(leaf, np.float16) for path, leaf in leaves}
    npz.write(folder / PARAMS, arrays | {STEP: np.array(step)})


def _name(path: tuple) -> str:
    return "/".join(part.key for part in path)
