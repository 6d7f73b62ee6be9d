"""Conversion of PyTorch state dicts to parameters of a network."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from diffusion_jax.files import torch_reader

StateDict = Mapping[str, np.ndarray]
Layout = Callable[[np.ndarray], np.ndarray]

# Prefixes of all names in the state dicts of DistributedDataParallel and torch.compile.
WRAPPERS = ("module.", "_orig_mod.")


def plain(array: np.ndarray) -> np.ndarray:
    """Returns the array unchanged: biases, scales, tables with a row for each class."""
    return array


def dense(array: np.ndarray) -> np.ndarray:
    """Transposes (out, in) to (in, out)."""
    return array.T


def conv(array: np.ndarray) -> np.ndarray:
    """Transposes (out, in, height, width) to (height, width, in, out)."""
    return array.transpose(2, 3, 1, 0)


def transposed_conv(array: np.ndarray) -> np.ndarray:
    """Transposes (in, out, height, width) to (height, width, in, out), and flips the window.

    PyTorch defines it as the gradient of a convolution, Flax as a convolution of a dilated input.
    """
    return array.transpose(2, 3, 0, 1)[::-1, ::-1]


@dataclass(frozen=True)
class Source:
    """Tensor of a state dict that a parameter comes from.

    layout: converts the tensor to the parameter's layout; may return a view.
    """

    name: str
    layout: Layout = plain


def read_state_dict(path: Path, *keys: str) -> dict[str, np.ndarray]:
    """Reads the state dict in a file of `torch.save`, without the prefixes of wrappers.

    keys: of the state dict if the file holds a dict of several objects, such as "ema" and "model";
    the first that exists is used. Raises FileNotFoundError if there is no such file, ValueError if
    it is damaged or holds no state dict.
    """
    saved = torch_reader.read(path)
    key = next((key for key in keys if isinstance(saved, dict) and key in saved), None)
    state = saved if key is None else saved[key]
    if not isinstance(state, dict) or not state or not all(map(_is_tensor, state.items())):
        inside = " or ".join(("at its top", *(f"in {key!r}" for key in keys)))
        raise ValueError(
            f"{path} has no state dict {inside}; a dict of names and tensors is expected"
        )
    for prefix in WRAPPERS:
        if all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): array for name, array in state.items()}
    return dict(state)


def fill(
    like: PyTree,
    state: StateDict,
    source_of: Callable[[tuple[str, ...]], Source],
    path: Path,
    *,
    ignored: Iterable[str] = (),
) -> PyTree:
    """Converts the tensors of a state dict to parameters in float32, each tensor to one.

    Args:
        like: parameters or their shapes.
        source_of: maps the path of a parameter, ("down_0", "conv", "kernel"), to its source.
        path: of the file, for error messages.
        ignored: names of tensors without a parameter, such as buffers.

    Raises:
        ValueError: for a tensor that is missing, unused, of another shape or not finite.
    """
    unused = set(state) - set(ignored)
    used = {}

    def convert(key: tuple[Any, ...], wanted: jax.ShapeDtypeStruct) -> np.ndarray:
        name = tuple(part.key for part in key)
        source = source_of(name)
        assert source.name not in used, (source.name, name, used[source.name])
        used[source.name] = name
        if source.name not in state:
            raise ValueError(f"{path} has no {source.name}, which this network has; {REMEDY}")
        array = state[source.name]
        try:
            array = source.layout(array)
            shape = array.shape
        except ValueError:  # another number of dimensions
            shape = None
        if shape != wanted.shape:
            raise ValueError(
                f"{path}: {source.name} has the shape {state[source.name].shape}, which does not "
                f"fit {'/'.join(name)} of this network, {wanted.shape}; {REMEDY}"
            )
        array = np.require(array, np.float32, "C")  # ascontiguousarray makes scalars vectors
        if not np.isfinite(array).all():
            raise ValueError(f"{path}: {source.name} contains non-finite values")
        unused.discard(source.name)
        return array

    params = jax.tree_util.tree_map_with_path(convert, like)
    if unused:
        name = min(unused)[:100]
        raise ValueError(f"{path} has a {name}, which this network does not have; {REMEDY}")
    return params


REMEDY = "another --config, or --config.model.FIELD=VALUE, may describe the file"


def _is_tensor(item: tuple[Any, Any]) -> bool:
    name, array = item
    return isinstance(name, str) and isinstance(array, np.ndarray)
