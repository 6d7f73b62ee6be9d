"""Conversion between the original's .json of hyperparameters and config fields."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from diffusion_jax.files import json_files
from diffusion_jax.importers.original.names import IDENTIFYING, StateDict
from diffusion_jax.models.layers.block_chain import parse_blocks

MOST_BLOCKS = 32  # per level


def read(json_path: Path, model_path: Path, state: StateDict) -> dict[str, Any]:
    """Reads the .json, and infers values that early versions of the original did not write.

    Files from before March 2023 have num_res_blocks instead of blk_types, which are inferred from
    the tensors. They have neither epoch nor step, which are read from the model's file name. A
    missing atn_resolution is 16. Raises ValueError if the file is not such a JSON object.
    """
    values = json_files.read_object(json_path, remedy="give the model's file of hyperparameters")
    if "blk_types" not in values:
        if "num_res_blocks" not in values:
            raise ValueError(
                f"{json_path} has neither blk_types nor num_res_blocks; give model_params...json"
            )
        values["blk_types"] = _blocks_of(state)
        values.setdefault("num_blocks", _levels_of(state))
    values.setdefault("atn_resolution", 16)
    for key, letter in (("epoch", "e"), ("step", "s")):
        values.setdefault(key, _number_in_name(model_path, letter) or 0)
    return values


def contradictions(values: Mapping[str, Any], model_path: Path) -> list[str]:
    """Returns disagreements of the model's file name and the .json, such as "step 2 and 999"."""
    in_name = {
        key: _number_in_name(model_path, letter) for key, letter in (("epoch", "e"), ("step", "s"))
    }
    return [
        f"{key} {number} and {values[key]}"
        for key, number in in_name.items()
        if number is not None and number != values[key]
    ]


def _number_in_name(path: Path, letter: str) -> int | None:
    """Returns the number before e or s in a name such as model_438e_550000s.pkl."""
    found = re.search(rf"_(\d{{1,9}}){letter}(?=[_.])", path.name)
    return int(found[1]) if found else None


def settings(values: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Returns config fields by dotted name. Raises ValueError for invalid values."""

    def number(key: str, lowest: int, highest: int) -> int:
        if key not in values:
            raise ValueError(f"{path} has no {key}")
        value = values[key]
        if type(value) is not int or not lowest <= value <= highest:
            raise ValueError(
                f"{path}: {key}={_short(value)} must be an integer in {lowest}..{highest}"
            )
        return value

    blocks, schedule = _checked_blocks(values["blk_types"], path), values.get("beta_sched")
    if schedule not in ("cosine", "linear"):
        raise ValueError(f"{path}: beta_sched={_short(schedule)} must be 'cosine' or 'linear'")
    for key in ("epoch", "step"):
        if values[key] is not None:
            number(key, 0, 2**31 - 1)
    # c_dim null means an unconditional model, whatever num_classes is.
    classes = values.get("c_dim") is not None
    return {
        "model.channels": number("inCh", 1, 2**12),
        "model.width": number("embCh", 1, 2**16),
        "model.growth": number("chMult", 0, 16),
        "model.levels": number("num_blocks", 1, 10),
        "model.blocks": blocks,
        "model.num_classes": number("num_classes", 1, 2**24) if classes else 0,
        "model.time_dim": number("t_dim", 1, 2**20),
        "model.label_dim": number("c_dim", 1, 2**20) if classes else 512,
        "model.window": number("atn_resolution", 1, 2**12),
        "schedule.num_steps": number("T", 2, 10**6),
        "schedule.name": schedule,
    }


def summary(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the values that `inferred_summary` infers, by the original's names."""
    width, growth = settings["model.width"], settings["model.growth"]
    classes = settings["model.num_classes"]
    return {
        "embCh": width,
        "inCh": settings["model.channels"],
        "num_blocks": settings["model.levels"],
        "embCh * 2^chMult": width * 2**growth,
        "blk_types": settings["model.blocks"],
        "t_dim": settings["model.time_dim"],
        "num_classes": classes or None,
        "c_dim": settings["model.label_dim"] if classes else None,
    }


def inferred_summary(state: StateDict) -> dict[str, Any]:
    """Infers the values of `summary` from the shapes of a few tensors."""

    def side(name: str, axis: int) -> int | None:
        tensor = state.get(name)
        return tensor.shape[axis] if tensor is not None and tensor.ndim > axis else None

    return {
        "embCh": side("unet.inConv.weight", 0),
        "inCh": side("unet.inConv.weight", 1),
        "num_blocks": _levels_of(state),
        "embCh * 2^chMult": side("unet.downBlocks.1.weight", 0),
        "blk_types": ",".join(_blocks_of(state)),
        "t_dim": side("unet.t_emb.0.weight", 0),
        "num_classes": side("c_emb.weight", 1),
        "c_dim": side("c_emb.weight", 0),
    }


def to_json(config: ConfigDict, epoch: int, step: int) -> dict[str, Any]:
    """Returns the hyperparameters that the original saves with a model of this config."""
    model = config.model
    return {
        "inCh": model.channels,
        "embCh": model.width,
        "chMult": model.growth,
        "num_blocks": model.levels,
        "blk_types": list(parse_blocks(model.blocks)),
        "T": config.schedule.num_steps,
        "beta_sched": config.schedule.name,
        "t_dim": model.time_dim,
        "c_dim": model.label_dim if model.num_classes else None,
        "num_classes": model.num_classes or None,
        "atn_resolution": model.window,
        "epoch": epoch,
        "step": step,
    }


def _checked_blocks(names: Any, path: Path) -> str:
    """Returns blk_types as the config's string. Raises ValueError for an invalid list."""
    is_list = isinstance(names, list) and 1 <= len(names) <= MOST_BLOCKS
    if not is_list or not all(isinstance(name, str) and len(name) < 100 for name in names):
        raise ValueError(
            f"{path}: blk_types={_short(names)} is not a list of 1 to {MOST_BLOCKS} block names"
        )
    blocks = ",".join(names)
    try:
        parsed = parse_blocks(blocks)
    except ValueError as error:
        raise ValueError(f"{path}: blk_types: {error}") from None
    if list(parsed) != names:
        raise ValueError(f"{path}: blk_types={_short(names)} has commas or blanks in its names")
    return blocks


def _short(value: Any) -> str:
    return repr(value)[:100]


def _blocks_of(state: StateDict) -> list[str]:
    """Infers the block types of a level from its tensors."""
    found = {}
    for name in state:
        match = re.fullmatch(r"unet\.intermediate\.0\.block\.(\d+)\.(.+)", name)
        if match and match[2] in IDENTIFYING:
            found[int(match[1])] = IDENTIFYING[match[2]]
    return [found[index] for index in sorted(found)]


def _levels_of(state: StateDict) -> int:
    """Counts the levels of the network."""
    return sum(bool(re.fullmatch(r"unet\.downBlocks\.\d+\.weight", name)) for name in state)
