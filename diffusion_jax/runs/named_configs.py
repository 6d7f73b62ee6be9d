"""Training in Python, from configs by name, by path or by value."""

import difflib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from ml_collections import ConfigDict

from diffusion_jax.runs import train as training
from diffusion_jax.runs.run import Run, load
from diffusion_jax.workdir.config import flatten

PACKAGE = Path(__file__).parent.parent
# The folder that holds `configs` and `scripts`: in an installed package, or in a checkout.
ROOT = PACKAGE / "bundled" if (PACKAGE / "bundled").is_dir() else PACKAGE.parent


def config(name: str | Path, changes: Mapping[str, Any] | None = None) -> ConfigDict:
    """The config of an experiment: "digits", "tfds:cifar10", or the path of a file.

    What follows a colon is the argument of its `get_config`. changes: fields by dotted name, such
    as {"model.width": 64}. Raises FileNotFoundError if there is no such config, and ValueError for
    changes that do not fit it.
    """
    name, _, argument = str(name).partition(":")
    make = _module(name).get_config
    if argument and not inspect.signature(make).parameters:
        raise ValueError(f"{name}:{argument}: the config {name} takes no argument")
    found = make(*([argument] if argument else []))
    return changed(found, changes or {})


def train(
    experiment: ConfigDict | str | Path,
    workdir: str | Path,
    changes: Mapping[str, Any] | None = None,
) -> Run:
    """Trains as `scripts.train` does, or goes on from the newest checkpoint; returns the run.

    experiment: a config, or what `config` takes, with changes.
    """
    if isinstance(experiment, ConfigDict):
        experiment = changed(experiment.copy_and_resolve_references(), changes or {})
    else:
        experiment = config(experiment, changes)
    folder = Path(workdir).expanduser()
    training.train(experiment, folder)
    return load(folder)


def changed(config: ConfigDict, changes: Mapping[str, Any]) -> ConfigDict:
    """The config, with these fields set. Raises ValueError for an unknown field or a wrong type."""
    known = flatten(config)
    for given, value in changes.items():
        name = given.removeprefix("config.")
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            guess = f"; did you mean {near[0]}?" if near else ""
            raise ValueError(f"There is no field {name}{guess}")
        try:
            config.update_from_flattened_dict({name: value})
        except (TypeError, ValueError):
            kind = type(known[name]).__name__
            raise ValueError(f"{name}={value!r} must be of type {kind}") from None
    return config


def names() -> list[str]:
    """The experiments that can be named."""
    found = sorted(path.stem for path in (ROOT / "configs").glob("*.py"))
    return [name for name in found if name not in ("__init__", "of_workdir")]


def path_of(name: str) -> Path:
    """The file of an experiment: of its name ("digits"), or of a path.

    A path such as configs/digits.py that does not exist here is looked up among those that come
    along. Raises FileNotFoundError.
    """
    path = Path(name).expanduser()
    if path.is_file():
        return path
    known = ROOT / "configs" / f"{path.stem}.py"
    if known.is_file() and str(path.parent) in (".", "configs") and path.suffix in ("", ".py"):
        return known
    raise FileNotFoundError(
        f"There is no config {name}: neither a file nor one of {', '.join(names())}"
    )


def _module(name: str) -> ModuleType:
    """The module in a file, which may import `configs`."""
    path = path_of(name)
    if str(ROOT) not in sys.path:
        sys.path.append(str(ROOT))
    if path.resolve().parent == ROOT / "configs":
        return importlib.import_module(f"configs.{path.stem}")
    spec = importlib.util.spec_from_file_location(f"config_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
