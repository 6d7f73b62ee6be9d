"""Names of ADM's parameters in OpenAI's programs and in nice-diffusion."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from diffusion_jax.importers.state_dicts import Layout, Source, dense, plain
from diffusion_jax.models import ADM, NoisyClassifier

ARRAYS = {"kernel": "weight", "scale": "weight", "bias": "bias", "table": "weight"}


@dataclass(frozen=True)
class Names:
    """Names of the parts of the network in a program.

    Args:
        time, label, down, middle, up: parts of the network.
        layers: layers of a block, by the names in `ADM`.
        shrink, grow: convolutions that change the sides, unless blocks do.
    """

    time: str
    label: str
    down: str
    middle: str
    up: str
    layers: Mapping[str, str]
    shrink: str
    grow: str


OPENAI = Names(
    *("time_embed", "label_emb", "input_blocks", "middle_block", "output_blocks"),
    layers={
        "norm_0": "in_layers.0",
        "conv_0": "in_layers.2",
        "embedding": "emb_layers.1",
        "norm_1": "out_layers.0",
        "conv_1": "out_layers.3",
        "shortcut": "skip_connection",
        "norm": "norm",
        "qkv": "qkv",
        "out": "proj_out",
    },
    shrink="op",
    grow="conv",
)
NICE = Names(
    *("step_embed", "class_embedding", "downsampling", "middle_block", "upsampling"),
    layers={
        "norm_0": "in_norm",
        "conv_0": "in_conv",
        "embedding": "step_embedding",
        "norm_1": "out_norm",
        "conv_1": "out_conv",
        "shortcut": "skip",
        "norm": "norm",
        "qkv": "qkv_nin",
        "out": "proj_out",
    },
    shrink="conv",
    grow="conv",
)


def block_names(model: ADM | NoisyClassifier, resolution: int, names: Names) -> dict[str, str]:
    """Returns the program's names of the blocks, by the names in `ADM`."""
    blocks, number, side = {"stem": f"{names.down}.0.0"}, 1, resolution
    levels = len(model.widths())
    for level in range(levels):
        for index in range(model.blocks):
            blocks[f"down_{level}_{index}_res"] = f"{names.down}.{number}.0"
            blocks[f"down_{level}_{index}_attention"] = f"{names.down}.{number}.1"
            number += 1
        if level < levels - 1:
            conv = "" if model.resample_blocks else f".{names.shrink}"
            blocks[f"down_{level}_shrink"] = f"{names.down}.{number}.0{conv}"
            number, side = number + 1, side // 2
    for index, part in enumerate(("0_res", "1_attention", "2_res")):
        blocks[f"middle_{part}"] = f"{names.middle}.{index}"
    number = 0
    for level in reversed(range(levels)):
        for index in range(model.blocks + 1):
            blocks[f"up_{level}_{index}_res"] = f"{names.up}.{number}.0"
            blocks[f"up_{level}_{index}_attention"] = f"{names.up}.{number}.1"
            number += 1
        conv = "" if model.resample_blocks else f".{names.grow}"
        # In the same list as the last block, after its attention.
        position = 2 if side in model.attention else 1
        blocks[f"up_{level}_grow"] = f"{names.up}.{number - 1}.{position}{conv}"
        side *= 2
    return blocks


def source_of(path: tuple[str, ...], blocks: Mapping[str, str], names: Names) -> Source:
    """Returns the source of a parameter."""
    module, *layers, array = path

    def of(name: str, layout: Layout) -> Source:
        return Source(f"{name}.{ARRAYS[array]}", layout if array == "kernel" else plain)

    match module:
        case "time_0" | "time_1":
            return of(f"{names.time}.{2 * int(module[-1])}", dense)
        case "label_embedding":
            return of(names.label, plain)
        case "head_norm":
            return of("out.0", plain)
        case "head":
            return of("out.2", window)
    name = blocks[module]
    if not layers:
        return of(name, window)
    layout = dense if layers[0] == "embedding" else window
    return of(f"{name}.{names.layers[layers[0]]}", layout)


def window(array: np.ndarray) -> np.ndarray:
    """Transposes (out, in, height, width), or (out, in, 1), to (height, width, in, out)."""
    if array.ndim == 3:
        array = array[..., None]
    return array.transpose(2, 3, 1, 0)
