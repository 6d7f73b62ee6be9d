"""From the state dicts of PyTorch programs to our parameters."""

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

# Prefixes that wrappers of PyTorch put before all names.
WRAPPERS = ("module.", "_orig_mod.")


def plain(array: np.ndarray) -> np.ndarray:
    """Biases, scales, tables with a row for each class."""
    return array


def dense(array: np.ndarray) -> np.ndarray:
    """(out, in) -> (in, out)."""
    return array.T


def conv(array: np.ndarray) -> np.ndarray:
    """(out, in, height, width) -> (height, width, in, out)."""
    return array.transpose(2, 3, 1, 0)


def transposed_conv(array: np.ndarray) -> np.ndarray:
    """(in, out, height, width) -> (height, width, in, out), turned around.

    PyTorch's is the gradient of a convolution, Flax's a convolution with holes in its input.
    """
    return array.transpose(2, 3, 0, 1)[::-1, ::-1]


@dataclass(frozen=True)
class Source:
    """Where a parameter comes from: the name of a tensor, and the function from its array to ours.

    layout: may return a view.
    """

    name: str
    layout: Layout = plain


def read_state_dict(path: Path, *keys: str) -> dict[str, np.ndarray]:
    """The state dict in a file of `torch.save`, by name, without wrappers' prefixes.

    keys: if the file holds a dict of several things, the first of these that it has is the state
    dict ("ema", "model", say). Raises FileNotFoundError if there is no such file, ValueError if it
    is damaged or holds no state dict.
    """
    saved = torch_reader.read(path)
    key = next((key for key in keys if isinstance(saved, dict) and key in saved), None)
    state = saved if key is None else saved[key]
    if not isinstance(state, dict) or not state or not all(map(_is_tensor, state.items())):
        inside = " or ".join(("at its top", *(f"in {key!r}" for key in keys)))
        raise ValueError(f"{path} has no state dict {inside}: no dict of names and tensors")
    for prefix in WRAPPERS:
        if all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): array for name, array in state.items()}
    return dict(state)


def fill(
    like: PyTree,
    state: StateDict,
    where: Callable[[tuple[str, ...]], Source],
    path: Path,
    *,
    ignored: Iterable[str] = (),
) -> PyTree:
    """Parameters like `like` (arrays or shapes), in float32, from the tensors of a state dict.

    where: maps the path of a parameter, ("down_0", "conv", "kernel"), to its source. path: of the
    file, for error messages. ignored: names of tensors that are left out, such as buffers. Each of
    the other tensors is used once. Raises ValueError for a tensor that is missing, left over, of
    another shape or not finite.
    """
    left = set(state) - set(ignored)
    used = {}

    def convert(key: tuple[Any, ...], wanted: jax.ShapeDtypeStruct) -> np.ndarray:
        ours = tuple(part.key for part in key)
        source = where(ours)
        assert source.name not in used, (source.name, ours, used[source.name])
        used[source.name] = ours
        if source.name not in state:
            raise ValueError(f"{path} has no {source.name}, which this network has; {REMEDY}")
        array = state[source.name]
        try:
            array = source.layout(array)
            shape = array.shape
        except ValueError:  # of other dimensions
            shape = None
        if shape != wanted.shape:
            raise ValueError(
                f"{path}: {source.name} has the shape {state[source.name].shape}, which does not "
                f"fit {'/'.join(ours)} of this network, {wanted.shape}; {REMEDY}"
            )
        array = np.require(array, np.float32, "C")  # ascontiguousarray makes numbers vectors
        if not np.isfinite(array).all():
            raise ValueError(f"{path}: {source.name} contains non-finite values")
        left.discard(source.name)
        return array

    params = jax.tree_util.tree_map_with_path(convert, like)
    if left:
        name = min(left)[:100]
        raise ValueError(f"{path} has a {name}, which this network has not; {REMEDY}")
    return params


REMEDY = "another --config, or --config.model.FIELD=VALUE, may describe the file"


def _is_tensor(item: tuple[Any, Any]) -> bool:
    name, array = item
    return isinstance(name, str) and isinstance(array, np.ndarray)
