"""Importer of Real-ESRGAN, as saved by BasicSR (RealESRGAN_x4plus.pth).

A file holds {"params_ema": state dict}, or "params" without averaging, or both. Files of ESRGAN,
with names such as RRDB_trunk, are rejected.
"""

from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np
from jaxtyping import PyTree

from diffusion_jax.files import torch_reader
from diffusion_jax.models.rrdbnet import RRDBNet

AVERAGED, RAW = "params_ema", "params"
EXPECTED = "a file like RealESRGAN_x4plus.pth is expected"
FIRST_OF_BLOCK = "rdb1.conv1.weight"

# Flax's names of the arrays of a layer -> PyTorch's.
ARRAYS = {"kernel": "weight", "bias": "bias"}


def read(path: Path) -> tuple[RRDBNet, PyTree]:
    """Reads (network, parameters), averaged ones if the file has them.

    The tensors determine the size of the network. Raises FileNotFoundError if there is no such
    file, ValueError if it is damaged or not of an RRDBNet that enlarges RGB images four times.
    """
    state = _state_dict(torch_reader.read(path), path)
    network = _network(state, path)
    images = jax.ShapeDtypeStruct((1, 1, 1, 3), np.float32)
    shapes = jax.eval_shape(network.init, jax.random.key(0), images)["params"]
    names = jax.tree_util.tree_map_with_path(lambda key, _: _in_torch(key), shapes)
    if unknown := state.keys() - set(jax.tree.leaves(names)):
        raise ValueError(
            f"{path} has a {min(unknown)[:100]}, which RRDBNet does not have; {EXPECTED}"
        )

    def convert(name: str, like: jax.ShapeDtypeStruct) -> np.ndarray:
        if name not in state:
            raise ValueError(f"{path} has no {name}; {EXPECTED}")
        # PyTorch's kernels are (out, in, height, width).
        *window, channels = like.shape
        wanted = (channels, *window[2:], *window[:2])
        array = state[name]
        if array.shape != wanted:
            raise ValueError(
                f"{path}: {name} has the shape {array.shape}, not {wanted}; {EXPECTED}"
            )
        if not np.isfinite(array).all():
            raise ValueError(f"{path}: {name} contains non-finite values")
        return np.ascontiguousarray(array.transpose(2, 3, 1, 0) if window else array)

    return network, jax.tree.map(convert, names, shapes)


def _state_dict(saved: object, path: Path) -> Mapping[str, np.ndarray]:
    saved = saved if isinstance(saved, dict) else {}
    state = saved.get(AVERAGED, saved.get(RAW))
    if not isinstance(state, dict):
        raise ValueError(f"{path} has neither {AVERAGED} nor {RAW}; {EXPECTED}")
    if not all(isinstance(n, str) and isinstance(a, np.ndarray) for n, a in state.items()):
        raise ValueError(f"{path} has parameters without a name or tensor; {EXPECTED}")
    return state


def _network(state: Mapping[str, np.ndarray], path: Path) -> RRDBNet:
    """Returns the network whose size fits a few of the tensors."""

    def channels(name: str) -> int:
        shape = state[name].shape if name in state else ()
        if len(shape) != 4 or 0 in shape:
            raise ValueError(f"{path} has no convolution {name}; {EXPECTED}")
        return shape[0]

    return RRDBNet(
        blocks=sum(name.startswith("body.") and name.endswith(FIRST_OF_BLOCK) for name in state),
        features=channels("conv_first.weight"),
        growth=channels(f"body.0.{FIRST_OF_BLOCK}"),
    )


def _in_torch(key: tuple) -> str:
    """Returns PyTorch's name: body.3.rdb1.conv2.weight for body_3/rdb1/conv2/kernel."""
    *modules, array = (part.key for part in key)
    modules[0] = modules[0].replace("body_", "body.")
    return ".".join([*modules, ARRAYS[array]])
