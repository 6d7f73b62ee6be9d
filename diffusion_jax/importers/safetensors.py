"""Import and export of the parameters of a run as safetensors.

The folder also has config.json and, for a model with classes, classes.txt, as a workdir has.
Tensors have the names of the parameters, "down_0.0_res.conv_0.kernel", and Flax's layout: kernels
are (height, width, in, out).
"""

import re
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
from jaxtyping import PyTree
from ml_collections import ConfigDict
from safetensors import SafetensorError, numpy, safe_open

from diffusion_jax.config.experiment import Experiment
from diffusion_jax.files import atomic, limits
from diffusion_jax.importers.state_dicts import Source, fill
from diffusion_jax.importers.workdirs import check_free
from diffusion_jax.training.state import param_shapes
from diffusion_jax.workdir.run_files import CLASSES_FILE, CONFIG_FILE, save_classes, save_config

FILE = "model.safetensors"
LONGEST_HEADER = 2**24  # bytes, enough for 100,000 tensors


def write(
    folder: Path, config: ConfigDict, params: PyTree, *, step: int, class_names: Sequence[str]
) -> list[Path]:
    """Writes model.safetensors, config.json and, with classes, classes.txt; returns their paths.

    Raises ValueError if the folder is not empty, or is a file.
    """
    check_free(folder, "out")
    path = folder / FILE
    tensors = {
        # ascontiguousarray makes vectors of scalars, such as EDM2's gains.
        _name(tuple(part.key for part in key)): np.require(leaf, requirements="C")
        for key, leaf in jax.tree_util.tree_leaves_with_path(params)
    }
    folder.mkdir(parents=True, exist_ok=True)
    save_config(config, folder)
    save_classes(class_names, folder)
    with atomic.replacing(path) as partial:
        numpy.save_file(tensors, partial, {"program": "diffusion_jax", "step": str(step)})
    return sorted(
        folder / name for name in (FILE, CONFIG_FILE, CLASSES_FILE) if (folder / name).exists()
    )


def read(path: Path, experiment: Experiment) -> tuple[int, PyTree]:
    """Reads (step, parameters of the experiment's network).

    Raises FileNotFoundError if there is no such file, ValueError if it is damaged or does not fit.
    """
    step, tensors = tensors_of(path)
    like = param_shapes(experiment.model, experiment.config.data.resolution)
    return step, fill(like, tensors, lambda name: Source(_name(name)), path)


def tensors_of(path: Path) -> tuple[int, dict[str, np.ndarray]]:
    """Reads (step, tensors by name). Raises FileNotFoundError, or ValueError if it is damaged.

    The header has at most LONGEST_HEADER bytes; the tensors are no longer than the file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; give a file of safetensors")
    with path.open("rb") as file:
        header = int.from_bytes(file.read(8), "little")
    if header > min(LONGEST_HEADER, path.stat().st_size):
        raise ValueError(
            f"{path} is damaged, or not a file of safetensors: its header has {header:,} bytes; at "
            f"most {LONGEST_HEADER:,} are read"
        )
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        reason = limits.one_line(error)
        raise ValueError(f"{path} is damaged, or not a file of safetensors: {reason}") from None
    step = metadata.get("step", "0")
    if not re.fullmatch(r"\d{1,15}", step):
        raise ValueError(f"{path} is damaged: step={step[:20]!r} is not a number")
    return int(step), tensors


def _name(path: tuple[str, ...]) -> str:
    return ".".join(path)
