"""Small trained models that come with the package."""

from pathlib import Path

import jax
import numpy as np
from jaxtyping import PyTree
from ml_collections import ConfigDict

from diffusion_jax import parallel
from diffusion_jax.files import npz
from diffusion_jax.runs import build, run_folder
from diffusion_jax.training.state import init_params

# A folder for each, with config.json, classes.txt and the averaged parameters in float16.
FOLDER = Path(__file__).parent.parent / "pretrained"
PARAMS = "params.npz"
STEP = "step"  # an entry beside the parameters


def names() -> list[str]:
    return sorted(path.name for path in FOLDER.iterdir() if (path / PARAMS).is_file())


def load(name: str) -> tuple[Path, ConfigDict, list[str], int, PyTree]:
    """(folder, config, names of the classes, step, parameters on every device) of a model."""
    folder = FOLDER / name
    config = run_folder.load(folder)
    arrays = npz.read(folder / PARAMS)
    model = build.make_model(config)
    like = jax.eval_shape(lambda: init_params(model, config.seed, config.data.resolution))
    params = jax.tree_util.tree_map_with_path(
        lambda path, leaf: arrays[_name(path)].astype(leaf.dtype), like
    )
    step = int(arrays[STEP])
    return folder, config, run_folder.class_names(folder), step, parallel.replicate(params)


def write(
    folder: Path, config: ConfigDict, class_names: list[str], step: int, params: PyTree
) -> None:
    """Writes such a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    run_folder.save(config, folder, class_names)
    leaves = jax.tree_util.tree_leaves_with_path(jax.device_get(params))
    arrays = {_name(path): np.asarray(leaf, np.float16) for path, leaf in leaves}
    npz.write(folder / PARAMS, arrays | {STEP: np.array(step)})


def _name(path: tuple) -> str:
    return "/".join(part.key for part in path)
