"""Importer of EDM2 (github.com/NVlabs/edm2): network snapshots, .pkl.

`ema` in the file is a `Precond`. Its arguments and tensors are read without running code from the
file; see `files/nvidia_pickle.py`.
"""

from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from diffusion_jax.files import nvidia_pickle
from diffusion_jax.importers import nvidia_arguments
from diffusion_jax.importers.imported_model import ImportedModel, build_experiment
from diffusion_jax.importers.nvidia_arguments import check_size
from diffusion_jax.importers.state_dicts import Layout, Source, conv, dense, fill
from diffusion_jax.training.state import param_shapes

BLOCK = {
    "conv_0": "conv_res0",
    "conv_1": "conv_res1",
    "embedding": "emb_linear",
    "shortcut": "conv_skip",
    "qkv": "attn_qkv",
    "out": "attn_proj",
}
ROOT = {
    "noise": ("unet.emb_noise.weight", dense),
    "label": ("unet.emb_label.weight", dense),
    "head": ("unet.out_conv.weight", conv),
    "uncertainty": ("logvar_linear.weight", dense),
}
FOURIER = {"noise_fourier": "unet.emb_fourier", "uncertainty_fourier": "logvar_fourier"}
# Constructor arguments -> fields of config.model.
FIELDS = {
    "img_channels": "channels",
    "label_dim": "num_classes",
    "model_channels": "width",
    "num_blocks": "blocks",
    "channels_per_head": "head_channels",
    "dropout": "dropout",
    "label_balance": "label_balance",
    "concat_balance": "concat_balance",
    "res_balance": "residual_balance",
    "attn_balance": "attention_balance",
    "clip_act": "clip",
    "logvar_channels": "uncertainty_dim",
}
LISTS = {"channel_mult": "multipliers", "attn_resolutions": "attention"}
# Defaults of the constructor.
DEFAULTS: dict[str, Any] = {
    "model_channels": 192,
    "channel_mult": [1, 2, 3, 4],
    "num_blocks": 3,
    "attn_resolutions": [16, 8],
}
UNUSED = {"img_resolution", "use_fp16"}  # have no effect on the network
# Values that arguments must have.
ONLY = {"channel_mult_noise": None, "channel_mult_emb": None, "resample_filter": [1, 1]}


def read(path: Path, config: ConfigDict) -> ImportedModel:
    """Reads the EMA model. Raises ValueError if the file is damaged or of another network."""
    module = nvidia_pickle.read(path, "Precond")
    state = {name: np.asarray(array, np.float32) for name, array in module.tensors.items()}
    settings = settings_of(module.arguments, path)
    check_size(settings, state, path)
    experiment = build_experiment(config, settings, path)
    side, levels = settings["data.resolution"], len(settings["model.multipliers"])
    like = param_shapes(experiment.model, side)
    params = fill(like, state, lambda name: source_of(name, side, levels), path)
    return ImportedModel(experiment, params, settings)


def settings_of(arguments: dict[str, Any], path: Path) -> dict[str, Any]:
    """Converts constructor arguments to config settings."""
    nvidia_arguments.check(arguments, {*FIELDS, *LISTS, *UNUSED, "sigma_data"}, ONLY, path)
    arguments = DEFAULTS | arguments
    return {"model.name": "edm2"} | nvidia_arguments.to_settings(arguments, FIELDS, LISTS)


def source_of(path: tuple[str, ...], side: int, levels: int) -> Source:
    """Returns the source of a parameter."""
    module, *layers = path
    if module in FOURIER:
        name = {"fixed_frequencies": "freqs", "fixed_phases": "phases"}[layers[0]]
        return Source(f"{FOURIER[module]}.{name}")
    if module == "head_gain":
        return Source("unet.out_gain")
    if module in ROOT:
        return Source(*ROOT[module])
    name = f"unet.{block_name(module, side, levels)}"
    if module == "stem":
        return Source(f"{name}.weight", conv)
    if layers[0] == "embedding_gain":
        return Source(f"{name}.emb_gain")
    layout: Layout = dense if layers[0] == "embedding" else conv
    return Source(f"{name}.{BLOCK[layers[0]]}.weight", layout)


def block_name(module: str, side: int, levels: int) -> str:
    """Returns EDM2's name of a block: enc.32x32_block0 for down_1_0 if images are 64x64."""
    if module == "stem":
        return f"enc.{side}x{side}_conv"
    way, *numbers = module.split("_")
    if way == "middle":
        here = side >> levels - 1
        return f"dec.{here}x{here}_in{numbers[0]}"
    here = side >> int(numbers[0])
    kind = {"shrink": "down", "grow": "up"}.get(numbers[1], f"block{numbers[1]}")
    return f"{'enc' if way == 'down' else 'dec'}.{here}x{here}_{kind}"
