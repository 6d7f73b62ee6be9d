"""The config that a run was last started with: config.json in its workdir."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from diffusion_jax.files import atomic, json_files, limits
from diffusion_jax.workdir.layout import CONFIG_FILE, pretrained_names, resolve_workdir


def save_config(config: ConfigDict, workdir: Path) -> None:
    """Writes config.json, whole or not at all."""
    text = json.dumps(config.to_dict(), indent=2) + "\n"
    atomic.write_text(workdir / CONFIG_FILE, text)


def load_config(workdir: Path) -> ConfigDict:
    """Reads the config of a run, locked.

    workdir: or the name of a model that comes with the package. Raises FileNotFoundError if there
    is no config, ValueError if it is not readable.
    """
    path = resolve_workdir(workdir) / CONFIG_FILE
    if not path.is_file():
        found = "it has no config.json" if workdir.is_dir() else "there is no such folder"
        raise FileNotFoundError(
            f"{workdir} is not the workdir of a run: {found}. Nor is it a model that comes with "
            f"the package: {', '.join(pretrained_names())}"
        )
    values = json_files.read_object(path, remedy="restore it from a copy")
    try:
        return ConfigDict(_lists_to_tuples(values)).lock()
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        reason = limits.one_line(error)
        raise ValueError(
            f"{path} is not the config of a run: {reason}; restore it from a copy"
        ) from None


def _lists_to_tuples(value: Any) -> Any:
    """Converts the lists of JSON to tuples, which fields of a config are."""
    if isinstance(value, dict):
        return {name: _lists_to_tuples(inner) for name, inner in value.items()}
    return tuple(map(_lists_to_tuples, value)) if isinstance(value, list) else value


def flatten(section: Mapping | ConfigDict, prefix: str = "") -> dict[str, Any]:
    """Returns the values by dotted name, such as "model.width"."""
    values = {}
    for name, value in section.items():
        if isinstance(value, Mapping | ConfigDict):
            values.update(flatten(value, f"{prefix}{name}."))
        else:
            values[prefix + name] = value
    return values


def differences(old: ConfigDict, new: ConfigDict) -> list[str]:
    """Lists the changed fields, as lines such as "model.width: 128 -> 64"."""
    before, after = flatten(old), flatten(new)
    return [
        f"{name}: {before.get(name)} -> {after.get(name)}"
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    ]
