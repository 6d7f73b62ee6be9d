"""Reads the models of the OASIS system (s4583222_Solution in shakes76/PatternFlow): Model_2.pt.

Its batch norms are imported as they are once trained, when they scale and shift each channel by
fixed numbers: `PlainUNet(norm="affine")`. (The program itself leaves them in training mode when it
samples, so that they normalize by the image that is being drawn.)
"""

from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from diffusion_jax.importers.imported import Imported, shapes_of, with_settings
from diffusion_jax.importers.tensors import (
    Source,
    conv,
    dense,
    fill,
    plain,
    read_state_dict,
    transposed_conv,
)

DOWN = ("first", "second", "third", "fourth")
UP = ("eigth", "seventh", "sixth", "fifth")  # from the highest resolution down
EPSILON = 1e-5  # of PyTorch's BatchNorm2d

# From our names of a level's layers to theirs.
LAYERS = {
    "conv_0": ("conv_1", conv),
    "conv_1": ("conv_2", conv),
    "norm_0": ("bnorm1", plain),
    "norm_1": ("bnorm2", plain),
    "embedding": ("time", dense),
}
ARRAYS = {"kernel": "weight", "scale": "weight", "bias": "bias"}


def read(path: Path, config: ConfigDict) -> Imported:
    """The model in a file. Raises ValueError if it is damaged or of another network."""
    state = read_state_dict(path, "model", "state_dict")
    settings = {"model.name": "plain_unet", "model.norm": "affine", "model.levels": len(DOWN)}
    for field, name, axis in (
        ("model.channels", "last_conv.weight", 0),
        ("model.width", "last_conv.weight", 1),
        ("model.time_dim", "time_embedding.linear.weight", 0),
    ):
        if name not in state or state[name].ndim <= axis:
            raise ValueError(f"{path} has no {name}; a model of the OASIS system was expected")
        settings[field] = state[name].shape[axis]
    like = shapes_of(with_settings(config, settings), path)
    state = _with_fixed_norms(state, path)
    return Imported(fill(like, state, source, path), settings=settings)


def source(path: tuple[str, ...]) -> Source:
    """Where a parameter comes from."""
    module, *_, array = path
    theirs = ARRAYS[array]

    def of(name: str, layout) -> Source:
        return Source(f"{name}.{theirs}", plain if array == "bias" else layout)

    if module == "time":
        return of("time_embedding.linear", dense)
    if module == "head":
        return of("last_conv", conv)
    if module.endswith("_double"):
        return of(f"{UP[int(module.split('_')[1])]}_level_up", transposed_conv)
    if module == "bottom":
        level = "bottle_neck"
    else:
        way, index = module.split("_")
        level = f"{(DOWN if way == 'down' else UP)[int(index)]}_level"
    layer, layout = LAYERS[path[1]]
    return of(f"{level}.{layer}", layout)


def _with_fixed_norms(state: dict[str, np.ndarray], path: Path) -> dict[str, np.ndarray]:
    """The same tensors, with batch norms that only scale and shift."""
    state = dict(state)
    for name in [name for name in state if name.endswith(".running_var")]:
        norm = name.removesuffix(".running_var")
        parts = [f"{norm}.{part}" for part in ("weight", "bias", "running_mean", "running_var")]
        if missing := [part for part in parts if part not in state]:
            raise ValueError(f"{path} has no {missing[0]}; a batch norm has four arrays")
        weight, bias, mean, variance = (np.asarray(state[part], np.float64) for part in parts)
        if {a.shape for a in (weight, bias, mean, variance)} != {weight.shape}:
            raise ValueError(f"{path}: the arrays of {norm} are of different shapes")
        if np.any(variance < 0):
            raise ValueError(f"{path}: {name} has a negative variance")
        scale = weight / np.sqrt(variance + EPSILON)
        state[parts[0]], state[parts[1]] = scale, bias - mean * scale
        for part in (*parts[2:], f"{norm}.num_batches_tracked"):
            state.pop(part, None)
    return state
