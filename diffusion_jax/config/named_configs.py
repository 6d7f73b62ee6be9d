"""Configs by name or path."""

import functools
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from ml_collections import ConfigDict

from diffusion_jax.config.other_names import guess
from diffusion_jax.config.schema import flatten
from diffusion_jax.files.paths import local_path

PACKAGE = Path(__file__).parent.parent
# The folder that holds `configs` and `scripts`: in an installed package, or in a checkout.
ROOT = PACKAGE / "bundled" if (PACKAGE / "bundled").is_dir() else PACKAGE.parent


def get_config(name: str | Path, changes: Mapping[str, Any] | None = None) -> ConfigDict:
    """Returns the config of an experiment: "digits", "tfds:cifar10", or the path of a file.

    Args:
        name: text after a colon is the argument of `get_config`.
        changes: fields by dotted name, such as {"model.width": 64}.

    Raises:
        FileNotFoundError: if there is no such config.
        ValueError: for changes that do not fit it.
    """
    name, _, argument = str(name).partition(":")
    make = _module(name).get_config
    if argument and not inspect.signature(make).parameters:
        raise ValueError(f"{name}:{argument}: the config {name} takes no argument")
    found = make(*([argument] if argument else []))
    return set_fields(found, changes or {})


def set_fields(config: ConfigDict, changes: Mapping[str, Any]) -> ConfigDict:
    """Sets fields of the config, and returns it. Raises ValueError for a wrong name or type."""
    known = flatten(config)
    for given, value in changes.items():
        name = given.removeprefix("config.")
        if name not in known:
            raise ValueError(f"There is no field {name}{guess(name, known)}")
        try:
            config.update_from_flattened_dict({name: value})
        except (TypeError, ValueError):
            *sections, field = name.split(".")
            section = functools.reduce(getattr, sections, config)
            kind = section.get_type(field).__name__
            raise ValueError(f"{name}={value!r} must be of type {kind}") from None
    return config


def names() -> list[str]:
    """Returns the names of the configs that come with the package."""
    found = sorted(path.stem for path in (ROOT / "configs").glob("*.py"))
    return [name for name in found if name not in ("__init__", "of_workdir")]


def path_of(name: str) -> Path:
    """Returns the file of a config, given its name ("digits") or a path.

    A missing path such as configs/digits.py is looked up among the configs of the package. Raises
    FileNotFoundError.
    """
    path = local_path(name)
    if path.is_file():
        return path
    known = ROOT / "configs" / f"{path.stem}.py"
    if known.is_file() and str(path.parent) in (".", "configs") and path.suffix in ("", ".py"):
        return known
    raise FileNotFoundError(
        f"There is no config {name}: neither a file nor one of {', '.join(names())}"
    )


def _module(name: str) -> ModuleType:
    """Imports the module of a config, which may import `configs`."""
    path = path_of(name)
    if str(ROOT) not in sys.path:
        sys.path.append(str(ROOT))
    if path.resolve().parent == ROOT / "configs":
        return importlib.import_module(f"configs.{path.stem}")
    spec = importlib.util.spec_from_file_location(f"config_{path.stem}", path)
    assert spec is not None, path
    assert spec.loader is not None, path
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
