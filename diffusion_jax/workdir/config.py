"""The config that a run was last started with: config.json in its workdir."""

import json
from pathlib import Path

from ml_collections import ConfigDict

from diffusion_jax.config import schema
from diffusion_jax.config.named_configs import config as named_config
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
        return schema.from_values(values, named_config("base")).lock()
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        reason = limits.one_line(error)
        raise ValueError(
            f"{path} is not the config of a run: {reason}; restore it from a copy"
        ) from None


def differences(old: ConfigDict, new: ConfigDict) -> list[str]:
    """Lists the changed fields, as lines such as "model.width: 128 -> 64"."""
    before, after = schema.flatten(old), schema.flatten(new)
    return [
        f"{name}: {before.get(name)} -> {after.get(name)}"
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    ]
