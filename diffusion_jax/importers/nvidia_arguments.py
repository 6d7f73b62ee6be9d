"""Constructor arguments of the networks in snapshots of EDM and EDM2, which may hold anything."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

INTEGERS = ("img_resolution", "img_channels", "label_dim", "model_channels", "num_blocks")
INTEGERS += ("augment_dim", "channel_mult_noise", "channels_per_head", "logvar_channels")
NUMBERS = ("dropout", "sigma_data", "label_balance", "concat_balance", "res_balance")
NUMBERS += ("attn_balance", "clip_act")
LISTS = ("channel_mult", "attn_resolutions", "resample_filter")
TEXTS = ("model_type", "embedding_type", "encoder_type")
QUOTED = 50  # characters of a value


def check(
    arguments: Mapping[Any, Any], known: Collection[str], only: Mapping[str, Any], path: Path
) -> None:
    """Raises ValueError, which names the file, unless the arguments describe a known network.

    Args:
        known: names of the arguments.
        only: values that arguments must have if given.
    """
    for name in arguments:
        if name not in known and name not in only:
            raise ValueError(
                f"{path}: its network has an unknown argument, {str(name)[:QUOTED]}; known: "
                f"{', '.join(sorted({*known, *only}))}"
            )
    for names, is_right, kind in (
        (INTEGERS, _is_integer, "an integer"),
        (NUMBERS, _is_number, "a number"),
        (LISTS, _is_list, "a list of numbers"),
        (TEXTS, lambda value: isinstance(value, str), "a string"),
    ):
        for name in names:
            if name in arguments and not is_right(arguments[name]):
                value = str(arguments[name])[:QUOTED]
                raise ValueError(f"{path}: {name}={value} of its network must be {kind}")
    for name, value in only.items():
        if arguments.get(name, value) != value:
            given = str(arguments[name])[:QUOTED]
            raise ValueError(f"{path}: {name}={given} of its network must be {value}")
    if "img_resolution" not in arguments:
        raise ValueError(f"{path}: its network has no img_resolution, the side of its images")
    channels = arguments.get("img_channels", 3)
    if channels not in (1, 3):
        raise ValueError(
            f"{path}: its images have {channels} channels, as latents do, which need a decoder. "
            "Models of pixels have 3 (RGB) or 1 (gray)"
        )


def to_settings(
    arguments: Mapping[str, Any], fields: Mapping[str, str], lists: Mapping[str, str]
) -> dict[str, Any]:
    """Returns config settings; `fields` and `lists` map arguments to fields of config.model.

    The arguments include channel_mult and attn_resolutions. Sides of the latter that are not of a
    level have no effect in these programs, and are left out.
    """
    settings = {
        "data.resolution": arguments["img_resolution"],
        "parameterization.sigma_data": float(arguments.get("sigma_data", 0.5)),
    }
    for name, field in fields.items():
        if name in arguments:
            settings[f"model.{field}"] = arguments[name]
    for name, field in lists.items():
        if name in arguments:
            settings[f"model.{field}"] = tuple(arguments[name])
    sides = [arguments["img_resolution"] >> i for i in range(len(arguments["channel_mult"]))]
    attended = set(arguments["attn_resolutions"])
    settings["model.attention"] = tuple(side for side in sides if side in attended)
    return settings


def check_size(settings: Mapping[str, Any], state: Mapping[str, np.ndarray], path: Path) -> None:
    """Raises ValueError if the network has more blocks than the file has tensors.

    A network of claimed, absent blocks would take time to trace.
    """
    blocks = settings["model.blocks"] * len(settings["model.multipliers"])
    if blocks > len(state):
        raise ValueError(
            f"{path} is damaged: its network has {blocks} blocks, and the file {len(state)} tensors"
        )


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return _is_integer(value) or isinstance(value, float)


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(map(_is_number, value))
