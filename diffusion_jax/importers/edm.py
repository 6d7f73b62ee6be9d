"""Importer of EDM (github.com/NVlabs/edm): network snapshots, .pkl.

`ema` in the file is an `EDMPrecond` around a `SongUNet` (DDPM++, NCSN++) or a `DhariwalUNet` (ADM).
Arguments and tensors are read without running code from the file; see `files/nvidia_pickle.py`.
"""

from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from diffusion_jax.files import nvidia_pickle
from diffusion_jax.importers import nvidia_arguments
from diffusion_jax.importers.imported_model import ImportedModel, build_experiment
from diffusion_jax.importers.nvidia_arguments import check_size
from diffusion_jax.importers.state_dicts import Layout, Source, conv, dense, fill, plain
from diffusion_jax.training.state import param_shapes

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
# Arguments without an effect on sampling, and fields of config.model for the others.
UNUSED = {"img_resolution", "use_fp16", "sigma_min", "sigma_max", "model_type", "label_dropout"}
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
# Values that arguments must have.
ONLY = {"channel_mult_emb": 4, "decoder_type": "standard"}
# Defaults of the constructors.
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


def read(path: Path, config: ConfigDict) -> ImportedModel:
    """Reads the EMA model. Raises ValueError if the file is damaged or of another network."""
    module = nvidia_pickle.read(path, "EDMPrecond")
    settings = settings_of(module.arguments, path)
    state = {name: np.asarray(array, np.float32) for name, array in module.tensors.items()}
    check_size(settings, state, path)
    experiment = build_experiment(config, settings, path)
    filters = [name for name in state if name.endswith(".resample_filter")]
    side, levels = settings["data.resolution"], len(settings["model.multipliers"])
    params = fill(
        param_shapes(experiment.model, side),
        state,
        lambda name: source_of(name, settings["model.name"], side, levels),
        path,
        ignored=filters,
    )
    return ImportedModel(experiment, params, settings)


def settings_of(given: dict[str, Any], path: Path) -> dict[str, Any]:
    """Converts constructor arguments to config settings."""
    nvidia_arguments.check(given, {*UNUSED, *FIELDS, *LISTS, "sigma_data"}, ONLY, path)
    kind = given.get("model_type", "DhariwalUNet")
    if kind not in NETWORKS:
        raise ValueError(f"{path} has a {kind[:50]}; known networks: {', '.join(NETWORKS)}")
    arguments = DEFAULTS[kind] | given
    if kind == "DhariwalUNet" and arguments.pop("augment_dim", 0):
        raise ValueError(f"{path}: a DhariwalUNet with augment_dim is not supported")
    settings = NETWORKS[kind] | nvidia_arguments.to_settings(arguments, FIELDS, LISTS)
    settings["model.dropout"] = float(settings["model.dropout"])
    return settings


def source_of(path: tuple[str, ...], network: str, side: int, levels: int) -> Source:
    """Returns the source of a parameter of the network "adm" or "song"."""
    module, *layers = path
    last = layers[-1] if layers else ""

    def of(name: str, layout: Layout) -> Source:
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
    """Returns SongUNet's name of a block: enc.16x16_block0 for down_1_0 if images are 32x32."""
    way, *numbers = module.split("_")
    if way == "middle":
        return f"dec.{_square(side >> levels - 1)}_in{numbers[0]}"
    kinds = {"shrink": "down", "grow": "up", "image": "aux_residual"}
    kind = kinds.get(numbers[1], f"block{numbers[1]}")
    return f"{'enc' if way == 'down' else 'dec'}.{_square(side >> int(numbers[0]))}_{kind}"


def adm_block(module: str, side: int, levels: int) -> str:
    """Returns DhariwalUNet's name of a block, which includes the attention that follows it."""
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
