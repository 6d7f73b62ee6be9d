"""Reads ADM's U-Net from the state dicts of two programs: OpenAI's and nice-diffusion.

OpenAI's improved-diffusion and guided-diffusion save 64x64_diffusion.pt, ema_0.9999_500000.pt, and
so on; edogariu/nice-diffusion, whose names differ, saves EMNIST_model_params.pt. Which network it
is has to be said by a config.
"""

import string
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from diffusion_jax.importers.imported import (
    Imported,
    network_of,
    shapes_of,
    with_settings,
)
from diffusion_jax.importers.tensors import Layout, Source, dense, fill, plain, read_state_dict
from diffusion_jax.models import ADM, NoisyClassifier

ARRAYS = {"kernel": "weight", "scale": "weight", "bias": "bias", "table": "weight"}


@dataclass(frozen=True)
class Names:
    """How a program names the parts of the network.

    time, label, down, middle, up: of the whole. layers: of the blocks, by our names. shrink, grow:
    of the convolutions that change the sides, if these are no blocks.
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


def read_openai(path: Path, config: ConfigDict) -> Imported:
    """A model of improved-diffusion or guided-diffusion; if the config says so, a classifier."""
    if config.model.name == "noisy_classifier":
        return _read_classifier(path, config)
    return _read(path, config, OPENAI)


def read_nice_diffusion(path: Path, config: ConfigDict) -> Imported:
    """A model of nice-diffusion.

    With model.learned_null its class 0 is the null class, and class i + 1 is our class i.
    """
    imported = _read(path, config, NICE)
    characters = {26: string.ascii_uppercase, 10: string.digits}
    names = characters.get(imported.settings["model.num_classes"], "")
    notes = ()
    if imported.settings["model.learned_null"]:
        notes = ("its class 0 is the null class, and its class i is i - 1 here.",)
    known = config.data.name.startswith("tfds:emnist")
    return replace(imported, class_names=tuple(names) if known else (), notes=notes)


def _read(path: Path, config: ConfigDict, names: Names) -> Imported:
    if config.model.name != "adm":
        raise ValueError(f"model.name={config.model.name} must be adm; choose another --config")
    state = read_state_dict(path, "ema", "model", "state_dict")
    settings = _settings(state, config, names, path)
    config = with_settings(config, settings)
    like, model = shapes_of(config, path), network_of(config, path)
    assert isinstance(model, ADM | NoisyClassifier)
    if model.learned_null and names is NICE:
        state[f"{names.label}.weight"] = np.roll(state[f"{names.label}.weight"], -1, axis=0)
    places = places_of(model, config.data.resolution, names)
    params = fill(like, state, lambda ours: source_of(ours, places, names), path)
    return Imported(params, settings=settings)


def _settings(
    state: Mapping[str, np.ndarray], config: ConfigDict, names: Names, path: Path
) -> dict[str, Any]:
    """What the shapes of a few tensors tell."""

    def side(name: str, axis: int) -> int:
        if name not in state or state[name].ndim <= axis:
            raise ValueError(
                f"{path} has no {name}; another program's model was expected. A classifier needs "
                "--config=configs/adm64_classifier.py"
            )
        return state[name].shape[axis]

    channels, outputs = side(f"{names.down}.0.0.weight", 1), side("out.2.weight", 0)
    channels //= 2 if config.model.low_resolution else 1
    rows = 0
    if f"{names.label}.weight" in state:
        rows = side(f"{names.label}.weight", 0) - config.model.learned_null
    return {
        "model.channels": channels,
        "model.width": side(f"{names.time}.0.weight", 1),
        "model.num_classes": rows,
        "model.learn_variance": outputs == 2 * channels,
        "model.learned_null": bool(rows) and config.model.learned_null,
    }


def _read_classifier(path: Path, config: ConfigDict) -> Imported:
    state = read_state_dict(path)
    pool: str = config.model.pool
    head = {"attention": "out.2.c_proj", "mean": "out.3"}.get(pool, pool)
    sides = {"channels": (f"{OPENAI.down}.0.0", 1), "width": (f"{OPENAI.time}.0", 1)}
    sides["num_classes"] = (head, 0)
    settings = {}
    for field, (name, axis) in sides.items():
        if f"{name}.weight" not in state or state[f"{name}.weight"].ndim < 2:
            raise ValueError(
                f"{path} has no {name}.weight; a classifier with model.pool={pool} was expected. "
                "Another may be described by --config.model.pool=mean, or --config"
            )
        settings[f"model.{field}"] = state[f"{name}.weight"].shape[axis]
    config = with_settings(config, settings)
    model = network_of(config, path)
    assert isinstance(model, ADM | NoisyClassifier)
    places = places_of(model, config.data.resolution, OPENAI)
    params = fill(shapes_of(config, path), state, lambda ours: _in_classifier(ours, places), path)
    return Imported(params, settings=settings)


def _in_classifier(path: tuple[str, ...], places: Mapping[str, str]) -> Source:
    array = ARRAYS.get(path[-1], "weight")
    if path == ("pool", "positions"):
        return Source("out.2.positional_embedding", dense)
    if path[0] in ("pool", "head"):
        name = "out.3" if path[0] == "head" else f"out.2.{path[1].replace('head', 'c')}_proj"
        # Convolutions with a window of one pixel.
        return Source(f"{name}.{array}", _product if array == "weight" else plain)
    return source_of(path, places, OPENAI)


def _product(array: np.ndarray) -> np.ndarray:
    return array.reshape(array.shape[0], -1).T


def places_of(model: ADM | NoisyClassifier, resolution: int, names: Names) -> dict[str, str]:
    """Their names of the blocks, by ours, for images of this side."""
    places, number, side = {"stem": f"{names.down}.0.0"}, 1, resolution
    levels = len(model.widths())
    for level in range(levels):
        for index in range(model.blocks):
            places[f"down_{level}_{index}_res"] = f"{names.down}.{number}.0"
            places[f"down_{level}_{index}_attention"] = f"{names.down}.{number}.1"
            number += 1
        if level < levels - 1:
            conv = "" if model.resample_blocks else f".{names.shrink}"
            places[f"down_{level}_shrink"] = f"{names.down}.{number}.0{conv}"
            number, side = number + 1, side // 2
    for index, part in enumerate(("0_res", "1_attention", "2_res")):
        places[f"middle_{part}"] = f"{names.middle}.{index}"
    number = 0
    for level in reversed(range(levels)):
        for index in range(model.blocks + 1):
            places[f"up_{level}_{index}_res"] = f"{names.up}.{number}.0"
            places[f"up_{level}_{index}_attention"] = f"{names.up}.{number}.1"
            number += 1
        conv = "" if model.resample_blocks else f".{names.grow}"
        # It stands in the same list as the last block, behind its attention.
        behind = 2 if side in model.attention else 1
        places[f"up_{level}_grow"] = f"{names.up}.{number - 1}.{behind}{conv}"
        side *= 2
    return places


def source_of(path: tuple[str, ...], places: Mapping[str, str], names: Names) -> Source:
    """Where a parameter comes from."""
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
    name = places[module]
    if not layers:
        return of(name, window)
    layout = dense if layers[0] == "embedding" else window
    return of(f"{name}.{names.layers[layers[0]]}", layout)


def window(array: np.ndarray) -> np.ndarray:
    """(out, in, height, width), or (out, in, 1) of attention, -> (height, width, in, out)."""
    if array.ndim == 3:
        array = array[..., None]
    return array.transpose(2, 3, 1, 0)
