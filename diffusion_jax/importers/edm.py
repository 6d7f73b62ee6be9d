"""Reads the models of EDM (github.com/NVlabs/edm): network snapshots, .pkl.

The file's `ema` is an `EDMPrecond` around a `SongUNet` (DDPM++, NCSN++) or a `DhariwalUNet` (ADM).
Its settings and tensors are read without running anything; see `files/nvidia_pickle.py`.
"""

from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from diffusion_jax.files import nvidia_pickle
from diffusion_jax.importers.imported import Imported, shapes_of, with_settings
from diffusion_jax.importers.nvidia_arguments import check_kinds, check_size
from diffusion_jax.importers.tensors import Source, conv, dense, fill, plain

ARRAYS = {"kernel": "weight", "scale": "weight", "bias": "bias"}
BLOCK = {
    "norm_0": ("norm0", plain),
    "conv_0": ("conv0", conv),
    "embedding": ("affine", dense),
    "norm_1": ("norm1", plain),
    "conv_1": ("conv1", conv),
    "shortcut": ("skip", conv),
    "norm_2": ("norm2", plain),
    "norm": ("norm2", plain),
    "qkv": ("qkv", conv),
    "out": ("proj", conv),
}
# Arguments that do not change what is computed here, and fields of the config for the others.
IDLE = {"img_resolution", "use_fp16", "sigma_min", "sigma_max", "model_type", "label_dropout"}
FIELDS = {
    "img_channels": "channels",
    "label_dim": "num_classes",
    "model_channels": "width",
    "num_blocks": "blocks",
    "dropout": "dropout",
    "embedding_type": "embedding",
    "channel_mult_noise": "noise_multiple",
    "encoder_type": "encoder",
    "augment_dim": "augment_dim",
}
LISTS = {
    "channel_mult": "multipliers",
    "attn_resolutions": "attention",
    "resample_filter": "taps",
}
# Arguments that must have these values.
ONLY = {"channel_mult_emb": 4, "decoder_type": "standard"}
# What the constructors have by default.
DEFAULTS: dict[str, dict[str, Any]] = {
    "SongUNet": {
        "model_channels": 128,
        "channel_mult": [1, 2, 2, 2],
        "num_blocks": 4,
        "attn_resolutions": [16],
        "dropout": 0.1,
        "embedding_type": "positional",
        "channel_mult_noise": 1,
        "encoder_type": "standard",
        "resample_filter": [1, 1],
        "augment_dim": 0,
    },
    "DhariwalUNet": {
        "model_channels": 192,
        "channel_mult": [1, 2, 3, 4],
        "num_blocks": 3,
        "attn_resolutions": [32, 16, 8],
        "dropout": 0.1,
    },
}
NETWORKS = {
    "SongUNet": {"model.name": "song"},
    "DhariwalUNet": {
        "model.name": "adm",
        "model.head_channels": 64,
        "model.qkv_order": "interleaved",
        "model.smallest_group": 4,
        "model.learn_variance": False,
    },
}


def read(path: Path, config: ConfigDict) -> Imported:
    """The average in a file. Raises ValueError if it is damaged or of another network."""
    module = nvidia_pickle.read(path, "EDMPrecond")
    settings = settings_of(module.arguments, path)
    state = {name: np.asarray(array, np.float32) for name, array in module.tensors.items()}
    check_size(settings, state, path)
    like = shapes_of(with_settings(config, settings), path)
    filters = [name for name in state if name.endswith(".resample_filter")]
    side, levels = settings["data.resolution"], len(settings["model.multipliers"])
    network = settings["model.name"]

    def source(ours: tuple[str, ...]) -> Source:
        return source_of(ours, network, side, levels)

    params = fill(like, state, source, path, ignored=filters)
    return Imported(params, settings=settings)


def settings_of(given: dict[str, Any], path: Path) -> dict[str, Any]:
    """Fields of the config from the constructor's arguments."""
    check_kinds(given, {*IDLE, *FIELDS, *LISTS, *ONLY, "sigma_data"}, path)
    kind = given.get("model_type", "DhariwalUNet")
    if kind not in NETWORKS:
        raise ValueError(f"{path} has a {kind}; known networks: {', '.join(NETWORKS)}")
    for name, value in ONLY.items():
        if given.get(name, value) != value:
            raise ValueError(f"{path}: {name}={given[name]} is not supported, {value} is")
    arguments = DEFAULTS[kind] | given
    if kind == "DhariwalUNet" and arguments.pop("augment_dim", 0):
        raise ValueError(f"{path}: a DhariwalUNet with augment_dim is not supported")
    settings = dict(NETWORKS[kind])
    settings["data.resolution"] = arguments["img_resolution"]
    settings["parameterization.sigma_data"] = float(arguments.get("sigma_data", 0.5))
    for name, field in FIELDS.items():
        if name in arguments:
            settings[f"model.{field}"] = arguments[name]
    for name, field in LISTS.items():
        if name in arguments:
            settings[f"model.{field}"] = tuple(arguments[name])
    settings["model.dropout"] = float(settings["model.dropout"])
    return settings


def source_of(path: tuple[str, ...], network: str, side: int, levels: int) -> Source:
    """Where a parameter of the network "adm" or "song" comes from."""
    module, *layers = path
    last = layers[-1] if layers else ""

    def of(name: str, layout) -> Source:
        return Source(f"model.{name}.{ARRAYS[last]}", plain if last == "bias" else layout)

    if module in ("time_0", "time_1", "noise_0", "noise_1"):
        return of(f"map_layer{module[-1]}", dense)
    if module == "label_embedding":
        return Source("model.map_label.weight", dense)
    if module == "label":
        return of("map_label", dense)
    if module == "noise":
        return Source("model.map_noise.freqs")
    if module == "augment":
        return Source("model.map_augment.weight", dense)
    if module == "stem":
        return of(f"enc.{side}x{side}_conv", conv)
    if module in ("head", "head_norm"):
        first, second = ("out_norm", "out_conv")
        if network == "song":
            first, second = (f"dec.{side}x{side}_aux_{kind}" for kind in ("norm", "conv"))
        return of(second, conv) if module == "head" else of(first, plain)
    name = (adm_block if network == "adm" else song_block)(module, side, levels)
    if "_image" in module:
        array = "bias" if module.endswith("_bias") else "weight"
        return Source(f"model.{name}.{array}", plain if array == "bias" else conv)
    layer, layout = BLOCK[layers[0]]
    return of(f"{name}.{layer}", layout)


def song_block(module: str, side: int, levels: int) -> str:
    """Their name of a block of `SongUNet`: "down_1_0" is "enc.16x16_block0" if images are 32x32."""
    way, *numbers = module.split("_")
    if way == "middle":
        return f"dec.{_square(side >> levels - 1)}_in{numbers[0]}"
    kinds = {"shrink": "down", "grow": "up", "image": "aux_residual"}
    kind = kinds.get(numbers[1], f"block{numbers[1]}")
    return f"{'enc' if way == 'down' else 'dec'}.{_square(side >> int(numbers[0]))}_{kind}"


def adm_block(module: str, side: int, levels: int) -> str:
    """Their name of a block of `ADM`, whose attention is a part of the block before it."""
    way, *numbers = module.split("_")
    if way == "middle":
        return f"dec.{_square(side >> levels - 1)}_in{int(numbers[0] == '2')}"
    level = int(numbers[0])
    if numbers[1] == "shrink":
        return f"enc.{_square(side >> level + 1)}_down"
    if numbers[1] == "grow":
        return f"dec.{_square(side >> level - 1)}_up"
    return f"{'enc' if way == 'down' else 'dec'}.{_square(side >> level)}_block{numbers[1]}"


def _square(side: int) -> str:
    return f"{side}x{side}"
