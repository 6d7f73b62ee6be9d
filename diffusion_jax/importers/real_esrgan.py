"""Reads the weights of Real-ESRGAN, as BasicSR saves them (RealESRGAN_x4plus.pth).

Such a file holds {"params_ema": state dict}, or "params" without averaging, or both. Older files of
ESRGAN, with names such as RRDB_trunk, are not read.
"""

from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np
from jaxtyping import PyTree

from diffusion_jax.files import torch_reader
from diffusion_jax.models.rrdbnet import RRDBNet

AVERAGED, RAW = "params_ema", "params"
EXPECTED = "a file like RealESRGAN_x4plus.pth was expected"
FIRST_OF_BLOCK = "rdb1.conv1.weight"

# From our names of a layer's arrays to PyTorch's.
ARRAYS = {"kernel": "weight", "bias": "bias"}


def read(path: Path) -> tuple[RRDBNet, PyTree]:
    """(the network, its parameters); its size is that of the tensors in the file.

    The averaged parameters if there are any. Raises FileNotFoundError if there is no such file,
    ValueError if it is damaged or not of an RRDBNet that quadruples RGB images.
    """
    state = _state_dict(torch_reader.read(path), path)
    network = _network(state, path)
    images = jax.ShapeDtypeStruct((1, 1, 1, 3), np.float32)
    shapes = jax.eval_shape(network.init, jax.random.key(0), images)["params"]
    places = jax.tree_util.tree_map_with_path(lambda key, _: _in_torch(key), shapes)
    if unknown := state.keys() - set(jax.tree.leaves(places)):
        raise ValueError(f"{path} has a {min(unknown)[:100]}, which RRDBNet has not; {EXPECTED}")

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

    return network, jax.tree.map(convert, places, shapes)


def _state_dict(saved: object, path: Path) -> Mapping[str, np.ndarray]:
    saved = saved if isinstance(saved, dict) else {}
    state = saved.get(AVERAGED, saved.get(RAW))
    if not isinstance(state, dict):
        raise ValueError(f"{path} has neither {AVERAGED} nor {RAW}; {EXPECTED}")
    if not all(isinstance(n, str) and isinstance(a, np.ndarray) for n, a in state.items()):
        raise ValueError(f"{path} has parameters that are no tensors with names; {EXPECTED}")
    return state


def _network(state: Mapping[str, np.ndarray], path: Path) -> RRDBNet:
    """The network of this size; whether all tensors fit is not checked."""

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
    """PyTorch's name of a parameter: body_3/rdb1/conv2/kernel is body.3.rdb1.conv2.weight."""
    *modules, array = (part.key for part in key)
    modules[0] = modules[0].replace("body_", "body.")
    return ".".join([*modules, ARRAYS[array]])
