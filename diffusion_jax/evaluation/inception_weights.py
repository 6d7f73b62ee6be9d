"""Weights of `evaluation.inception`: the published ones, or random ones for tests.

The published weights are the PyTorch port that pytorch-fid and torch-fidelity share.
"""

import hashlib
import os
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import jax
import numpy as np
from jaxtyping import PyTree

from diffusion_jax.evaluation.inception import InceptionV3
from diffusion_jax.files import download, npz, torch_reader
from diffusion_jax.files.paths import local_path

NAME = "pt_inception-2015-12-05-6726825d.pth"
ADDRESS = f"https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/{NAME}"
SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
RANDOM_SEED = 0

# For provenance: the network, and its published weights.
NETWORK = "InceptionV3 of 2015-12-05"
PUBLISHED = f"{NAME}, sha256 {SHA256}"

# Flax's names of the arrays of a layer -> PyTorch's.
NORM = {"scale": "bn.weight", "bias": "bn.bias", "mean": "bn.running_mean"}
NORM |= {"variance": "bn.running_var"}


def load(weights: str, *, cache_dir: Path | None = None) -> tuple[PyTree, str]:
    """Returns (parameters, their description for provenance).

    Args:
        weights: "published", which downloads them once; "random"; or the path of the published
            file, which is converted once to an npz in cache_dir.
        cache_dir: None is ~/.cache/diffusion_jax.

    Raises:
        ValueError: if the file is not the published one.
        FileNotFoundError: if it is missing or cannot be downloaded.
    """
    if weights == "random":
        return from_state_dict(random_state_dict()), f"random, seed {RANDOM_SEED}"
    cache = cache_dir or _default_cache()
    converted = cache / f"{Path(NAME).stem}.{SHA256[:16]}.npz"
    if weights == "published":
        if not converted.is_file():
            _convert(_downloaded(cache), converted)
    else:
        path = local_path(weights)
        if not path.is_file():
            raise FileNotFoundError(
                f"--weights={path} does not exist; give published, random, or the path of {NAME}"
            )
        _check(path)
        if not converted.is_file():
            _convert(path, converted)
    return from_state_dict(npz.read(converted, remedy="delete it")), PUBLISHED


def _convert(path: Path, converted: Path) -> None:
    """Converts PyTorch's file to an npz, which is faster to read."""
    state = torch_reader.read(path)
    converted.parent.mkdir(parents=True, exist_ok=True)
    npz.write(converted, state)


def from_state_dict(state: Mapping[str, np.ndarray]) -> PyTree:
    """Converts PyTorch's arrays by name to the parameters of `InceptionV3`.

    Raises ValueError if an array is missing or has the wrong shape.
    """
    shapes = parameter_shapes()

    def convert(key: tuple, like: jax.ShapeDtypeStruct) -> np.ndarray:
        name, arrange = _in_torch(tuple(part.key for part in key))
        if name not in state:
            raise ValueError(f"The weights of InceptionV3 have no {name}")
        array = arrange(np.asarray(state[name], np.float32))
        if array.shape != like.shape:
            raise ValueError(f"{name} has the shape {array.shape}; {like.shape} is expected")
        return array

    return jax.tree_util.tree_map_with_path(convert, shapes)


def parameter_shapes() -> PyTree:
    """Returns shapes and types of the parameters of `InceptionV3`."""
    images = jax.ShapeDtypeStruct((1, 299, 299, 3), np.float32)
    return jax.eval_shape(InceptionV3().init, jax.random.key(0), images)["params"]


def random_state_dict(seed: int = RANDOM_SEED) -> dict[str, np.ndarray]:
    """Returns random weights by PyTorch's names, scaled to keep activations in range."""
    state = {}
    for key, like in jax.tree_util.tree_leaves_with_path(parameter_shapes()):
        path = tuple(part.key for part in key)
        name, _ = _in_torch(path)
        generator = np.random.default_rng([seed, zlib.crc32(name.encode())])
        match path[-1]:
            case "kernel":
                height, width, before, after = like.shape
                spread = np.sqrt(2 / (height * width * before))
                array = spread * generator.standard_normal((after, before, height, width))
            case "fc":
                array = generator.standard_normal(like.shape[::-1]) / np.sqrt(like.shape[0])
            case "scale" | "variance":
                array = generator.uniform(0.8, 1.2, like.shape)
            case _:
                array = 0.1 * generator.standard_normal(like.shape)
        state[name] = array.astype(np.float32)
    return state


def _in_torch(path: tuple[str, ...]) -> tuple[str, Callable[[np.ndarray], np.ndarray]]:
    """Returns (PyTorch's name of a parameter, conversion of its array to Flax's layout)."""
    *layer, last = path
    if path == ("fc",):
        return "fc.weight", np.transpose
    if last == "kernel":
        return ".".join([*layer, "weight"]), lambda array: array.transpose(2, 3, 1, 0)
    return ".".join([*layer, NORM[last]]), lambda array: array


def _check(path: Path) -> None:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != SHA256:
        raise ValueError(
            f"{path} is not {NAME}: its sha256 is {found}, {SHA256} is expected. FIDs with other "
            f"weights are not comparable; download it from {ADDRESS}"
        )


def _default_cache() -> Path:
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "diffusion_jax"


def _downloaded(cache: Path) -> Path:
    return download.fetch(
        ADDRESS, cache / NAME, _check, size="96 MB", instead="give its path, --weights PATH"
    )
