"""Checks of the constructor's arguments in files of EDM and EDM2, which may hold anything."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

WHOLE = ("img_resolution", "img_channels", "label_dim", "model_channels", "num_blocks")
WHOLE += ("augment_dim", "channel_mult_noise", "channels_per_head", "logvar_channels")
NUMBERS = ("dropout", "sigma_data", "label_balance", "concat_balance", "res_balance")
NUMBERS += ("attn_balance", "clip_act")
LISTS = ("channel_mult", "attn_resolutions", "resample_filter")
TEXTS = ("model_type", "embedding_type", "encoder_type")


def check_kinds(given: Mapping[Any, Any], known: Collection[str], path: Path) -> None:
    """Raises ValueError, which names the file, for an argument that is unknown or of a wrong kind.

    Also without img_resolution, and for networks of latents, whose images have other channels.
    """
    if unknown := [name for name in given if name not in known]:
        name = str(unknown[0])[:50]
        raise ValueError(f"{path}: its network has an unknown argument, {name}")
    for names, right, wanted in (
        (WHOLE, _is_whole, "a whole number"),
        (NUMBERS, _is_number, "a number"),
        (LISTS, _is_list, "a list of numbers"),
        (TEXTS, lambda value: isinstance(value, str), "a text"),
    ):
        for name in names:
            if name in given and not right(given[name]):
                value = str(given[name])[:50]
                raise ValueError(f"{path}: {name}={value} of its network must be {wanted}")
    if "img_resolution" not in given:
        raise ValueError(f"{path}: its network has no img_resolution, the side of its images")
    channels = given.get("img_channels", 3)
    if channels not in (1, 3):
        raise ValueError(
            f"{path}: its images have {channels} channels. It draws latents, which need a decoder "
            "that is not here; models of pixels have 3 (RGB) or 1 (gray)"
        )


def check_size(settings: Mapping[str, Any], state: Mapping[str, np.ndarray], path: Path) -> None:
    """Raises ValueError if the network must have more blocks than the file has tensors."""
    levels = len(settings["model.multipliers"])
    blocks = settings["model.blocks"] * levels
    if blocks > len(state):
        raise ValueError(f"{path}: {blocks} blocks are said to be in its {len(state)} tensors")


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return _is_whole(value) or isinstance(value, float)


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(map(_is_number, value))
