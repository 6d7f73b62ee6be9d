"""Importer of the OASIS system (s4583222_Solution in shakes76/PatternFlow): Model_2.pt.

Batch norms become fixed scales and shifts of each channel, `PlainUNet(norm="affine")`. The program
itself leaves them in training mode when it samples, where they normalize by the current image.
"""

from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from diffusion_jax.importers.imported_model import ImportedModel, build_experiment
from diffusion_jax.importers.state_dicts import (
    Layout,
    Source,
    conv,
    dense,
    fill,
    plain,
    read_state_dict,
    transposed_conv,
)
from diffusion_jax.training.state import param_shapes

DOWN = ("first", "second", "third", "fourth")
UP = ("eigth", "seventh", "sixth", "fifth")  # the highest resolution first
EPSILON = 1e-5  # default of PyTorch's BatchNorm2d

# Layers of a level -> the program's layers.
LAYERS = {
    "conv_0": ("conv_1", conv),
    "conv_1": ("conv_2", conv),
    "norm_0": ("bnorm1", plain),
    "norm_1": ("bnorm2", plain),
    "embedding": ("time", dense),
}
ARRAYS = {"kernel": "weight", "scale": "weight", "bias": "bias"}


def read(path: Path, config: ConfigDict) -> ImportedModel:
    """Reads a model. Raises ValueError if the file is damaged or of another network."""
    state = read_state_dict(path, "model", "state_dict")
    settings = {"model.name": "plain_unet", "model.norm": "affine", "model.levels": len(DOWN)}
    for field, name, axis in (
        ("model.channels", "last_conv.weight", 0),
        ("model.width", "last_conv.weight", 1),
        ("model.time_dim", "time_embedding.linear.weight", 0),
    ):
        if name not in state or state[name].ndim <= axis:
            raise ValueError(f"{path} has no {name}; a model of the OASIS system is expected")
        settings[field] = state[name].shape[axis]
    experiment = build_experiment(config, settings, path)
    like = param_shapes(experiment.model, experiment.config.data.resolution)
    state = _with_fixed_norms(state, path)
    return ImportedModel(experiment, fill(like, state, source_of, path), settings)


def source_of(path: tuple[str, ...]) -> Source:
    """Returns the source of a parameter."""
    module, *_, array = path

    def of(name: str, layout: Layout) -> Source:
        return Source(f"{name}.{ARRAYS[array]}", plain if array == "bias" else layout)

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
    """Returns the tensors with the statistics of batch norms folded into scale and bias."""
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
