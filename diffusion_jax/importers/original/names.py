"""Map from the original's tensors to parameters of `UNet`, with conversions of their layout.

The original uses NCHW and OIHW; `UNet` uses NHWC and HWIO.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import jax
import numpy as np
from jaxtyping import PyTree

from diffusion_jax.models import UNet
from diffusion_jax.models.layers.block_chain import parse_blocks

StateDict = dict[str, np.ndarray]

# The original's name -> (name in `UNet`, kind), in the order of its state dict.
Names = dict[str, tuple[str, str]]
BLOCK_NAMES: dict[str, Names] = {
    "res": {
        "t_mlp.1": ("time", "dense"),
        "c_mlp.1": ("label", "dense"),
        "block1.proj": ("conv_0", "conv"),
        "block1.norm": ("norm_0/norm", "norm"),
        "block2.proj": ("conv_1", "conv"),
        "block2.norm": ("norm_1/norm", "norm"),
        "res_conv": ("shortcut", "conv"),
    },
    "conv": {
        "block.0": ("depthwise", "conv"),
        "block.1": ("norm/norm", "norm"),
        "block.2": ("expand", "conv"),
        "block.4": ("project", "conv"),
        "res": ("shortcut", "conv"),
        "timeProj": ("time", "dense"),
        "clsProj": ("label", "dense"),
    },
    "clsAtn": {
        "Q_emb": ("query", "dense"),
        "K_emb": ("key", "dense"),
        "out_emb.0": ("out", "conv"),
        "out_emb.1": ("norm_out/norm", "norm"),
        "LN": ("norm_in/norm", "norm"),
    },
    "atn": {
        "KQV_weight": ("kqv", "conv"),
        "O_conv": ("out", "conv"),
        "LN": ("norm/norm", "norm"),
    },
    "chnAtn": {"conv": ("", "channels")},
}
# Tensor that identifies the type of a block -> the type.
IDENTIFYING = {
    "t_mlp.1.weight": "res",
    "timeProj.weight": "conv",
    "Q_emb.weight": "clsAtn",
    "KQV_weight.weight": "atn",
    "conv.weight": "chnAtn",
}


def _same(array: np.ndarray) -> np.ndarray:
    return array


def _flip(array: np.ndarray) -> np.ndarray:
    return array[::-1, ::-1]


# Kind of module -> (name of its weight, conversions from and to the original). Views, not copies.
Convert = Callable[[np.ndarray], np.ndarray]
KINDS: dict[str, tuple[str, Convert, Convert]] = {
    "dense": ("kernel", np.transpose, np.transpose),
    "embedding": ("table", np.transpose, np.transpose),
    "norm": ("scale", _same, _same),
    # (out, in, height, width) and (height, width, in, out).
    "conv": ("kernel", lambda w: w.transpose(2, 3, 1, 0), lambda w: w.transpose(3, 2, 0, 1)),
    # A transposed convolution, (in, out, height, width).
    "double": (
        "kernel",
        lambda w: _flip(w.transpose(2, 3, 0, 1)),
        lambda w: _flip(w).transpose(2, 3, 0, 1),
    ),
    "channels": ("kernel", lambda w: w.reshape(-1, 1, 1), lambda w: w.reshape(1, 1, 1, -1)),
}


@dataclass(frozen=True)
class Entry:
    """Tensor: its name in the original, its path in `UNet`, and conversions of the layout."""

    name: str
    path: tuple[str, ...]
    from_original: Convert
    to_original: Convert


def entries(model: UNet, params: PyTree) -> list[Entry]:
    """Returns the entries of `params` (arrays or shapes), in the original's order."""
    present = {tuple(k.key for k in path) for path, _ in jax.tree.leaves_with_path(params)}
    found = [entry for entry in _all_entries(model) if entry.path in present]
    assert {entry.path for entry in found} == present
    return found


def _all_entries(model: UNet) -> Iterator[Entry]:
    """Yields all possible entries; not every model has shortcuts and label layers."""

    def module(name: str, path: str, kind: str) -> Iterator[Entry]:
        weight, from_original, to_original = KINDS[kind]
        parts = tuple(filter(None, path.split("/")))
        yield Entry(f"{name}.weight", (*parts, weight), from_original, to_original)
        yield Entry(f"{name}.bias", (*parts, "bias"), _same, _same)

    def named(prefix: str, path: str, names: Names) -> Iterator[Entry]:
        for name, (layer, kind) in names.items():
            yield from module(f"{prefix}.{name}", f"{path}/{layer}", kind)

    def level(prefix: str, path: str) -> Iterator[Entry]:
        for index, block in enumerate(parse_blocks(model.blocks)):
            if block not in BLOCK_NAMES:
                known = ", ".join(BLOCK_NAMES)
                raise ValueError(f"The original has no block {block!r}; its blocks: {known}")
            names = BLOCK_NAMES[block]
            yield from named(f"{prefix}.block.{index}", f"{path}/{index}_{block}", names)

    yield from module("unet.inConv", "stem", "conv")
    for i in range(model.levels):
        yield from level(f"unet.downBlocks.{2 * i}", f"down_{i}")
        yield from module(f"unet.downBlocks.{2 * i + 1}", f"down_{i}_halve", "conv")
    yield from level("unet.intermediate.0", "middle_0")
    yield from named("unet.intermediate.1", "middle_1", BLOCK_NAMES["chnAtn"])
    yield from level("unet.intermediate.2", "middle_2")
    for position, i in enumerate(reversed(range(model.levels))):
        yield from module(f"unet.upBlocks.{2 * position}", f"up_{i}_double", "double")
        yield from level(f"unet.upBlocks.{2 * position + 1}", f"up_{i}")
    yield from level(f"unet.upBlocks.{2 * model.levels}", "tail_0")
    yield from level(f"unet.upBlocks.{2 * model.levels + 1}", "tail_1")
    yield from module("unet.out", "head", "conv")
    yield from module("unet.t_emb.0", "time_mlp/hidden", "dense")
    yield from module("unet.t_emb.2", "time_mlp/out", "dense")
    yield from module("c_emb", "label_embedding", "embedding")
    yield from named("out_mean", "noise_head", BLOCK_NAMES["conv"])
    yield from named("out_var", "variance_head", BLOCK_NAMES["conv"])


def to_params(state: StateDict, layout: list[Entry]) -> dict:
    """Converts the original's state dict to parameters; views, not copies."""
    params: dict = {}
    for entry in layout:
        *modules, leaf = entry.path
        node = params
        for name in modules:
            node = node.setdefault(name, {})
        node[leaf] = entry.from_original(state[entry.name])
    return params


def to_state_dict(params: PyTree, layout: list[Entry]) -> OrderedDict[str, np.ndarray]:
    """Converts parameters to the original's state dict; views, not copies."""
    state = OrderedDict()
    for entry in layout:
        value = params
        for name in entry.path:
            value = value[name]
        state[entry.name] = entry.to_original(np.asarray(value))
    return state
