"""Reads the models of EDM2 (github.com/NVlabs/edm2): network snapshots, .pkl.

The file's `ema` is a `Precond`, whose settings and tensors are read without running anything; see
`files/nvidia_pickle.py`.
"""

from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from diffusion_jax.files import nvidia_pickle
from diffusion_jax.importers.imported import Imported, shapes_of, with_settings
from diffusion_jax.importers.nvidia_arguments import check_kinds, check_size
from diffusion_jax.importers.tensors import Layout, Source, conv, dense, fill

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
# From the constructor's arguments to fields of our network.
ARGUMENTS = {
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
# Arguments that do not change what is computed here, or must have these values.
OTHERS = {"img_resolution": None, "use_fp16": None, "sigma_data": None}
ONLY = {"channel_mult_noise": None, "channel_mult_emb": None, "resample_filter": [1, 1]}


def read(path: Path, config: ConfigDict) -> Imported:
    """The average in a file. Raises ValueError if it is damaged or of another network."""
    module = nvidia_pickle.read(path, "Precond")
    state = {name: np.asarray(array, np.float32) for name, array in module.tensors.items()}
    settings = settings_of(module.arguments, path)
    check_size(settings, state, path)
    like = shapes_of(with_settings(config, settings), path)
    side = settings["data.resolution"]
    levels = len(settings["model.multipliers"])
    params = fill(like, state, lambda ours: source(ours, side, levels), path)
    return Imported(params, settings=settings)


def settings_of(arguments: dict, path: Path) -> dict:
    """Fields of the config from the constructor's arguments."""
    check_kinds(arguments, {*ARGUMENTS, *LISTS, *OTHERS, *ONLY}, path)
    for name, value in ONLY.items():
        if arguments.get(name, value) != value:
            raise ValueError(f"{path}: {name}={arguments[name]} is not supported, {value} is")
    settings: dict = {"model.name": "edm2", "data.resolution": arguments["img_resolution"]}
    settings |= {"parameterization.sigma_data": float(arguments.get("sigma_data", 0.5))}
    for name, field in ARGUMENTS.items():
        if name in arguments:
            settings[f"model.{field}"] = arguments[name]
    for name, field in LISTS.items():
        if name in arguments:
            settings[f"model.{field}"] = tuple(arguments[name])
    return settings


def source(path: tuple[str, ...], side: int, levels: int) -> Source:
    """Where a parameter comes from."""
    module, *layers = path
    if module in FOURIER:
        name = {"fixed_frequencies": "freqs", "fixed_phases": "phases"}[layers[0]]
        return Source(f"{FOURIER[module]}.{name}")
    if module == "head_gain":
        return Source("unet.out_gain")
    if module in ROOT:
        return Source(*ROOT[module])
    name = f"unet.{place(module, side, levels)}"
    if module == "stem":
        return Source(f"{name}.weight", conv)
    if layers[0] == "embedding_gain":
        return Source(f"{name}.emb_gain")
    layout: Layout = dense if layers[0] == "embedding" else conv
    return Source(f"{name}.{BLOCK[layers[0]]}.weight", layout)


def place(module: str, side: int, levels: int) -> str:
    """Their name of a block: "down_1_0" is "enc.32x32_block0" if images are 64x64."""
    if module == "stem":
        return f"enc.{side}x{side}_conv"
    way, *numbers = module.split("_")
    if way == "middle":
        here = side >> levels - 1
        return f"dec.{here}x{here}_in{numbers[0]}"
    here = side >> int(numbers[0])
    kind = {"shrink": "down", "grow": "up"}.get(numbers[1], f"block{numbers[1]}")
    return f"{'enc' if way == 'down' else 'dec'}.{here}x{here}_{kind}"
