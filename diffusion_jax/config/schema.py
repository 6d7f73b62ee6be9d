"""Sections of a config that are derived from signatures, where options have their defaults.

A table maps names to functions (or classes). Their keyword-only parameters, or dataclass fields,
are the options of what is named. A new entry or option needs no line in a config.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import is_dataclass
from typing import Any

from ml_collections import ConfigDict

from diffusion_jax.data import make_source
from diffusion_jax.diffusion.losses import LOSSES
from diffusion_jax.diffusion.parameterizations import PARAMETERIZATIONS
from diffusion_jax.diffusion.schedules import SCHEDULES
from diffusion_jax.diffusion.timestep_samplers import TIMESTEPS
from diffusion_jax.diffusion.weights import WEIGHTS
from diffusion_jax.models import MODELS
from diffusion_jax.sampling import SOLVERS, SPACINGS
from diffusion_jax.training.ema import AVERAGES


def options_of(function: Callable) -> dict[str, Any]:
    """The options of one entry of a table, with their defaults."""
    parameters = inspect.signature(function).parameters.values()
    if is_dataclass(function):
        return {p.name: p.default for p in parameters}
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


def options_by_name(table: Mapping[str, Callable]) -> dict[str, dict[str, Any]]:
    """The options of each entry of a table that has any."""
    options = {name: options_of(function) for name, function in table.items()}
    return {name: found for name, found in options.items() if found}


def model_section(name: str, **fields: Any) -> ConfigDict:
    """The section `config.model` of a network: its name and its constructor's arguments.

    fields: arguments that differ from the constructor's defaults; channels and num_classes start
    from 3 and 0. Raises ValueError for a name that is not in MODELS.
    """
    section = {"name": known_network(name), "channels": 3, "num_classes": 0}
    for parameter in inspect.signature(MODELS[name]).parameters.values():
        if parameter.name not in (*section, "parent"):
            section[parameter.name] = parameter.default
    return ConfigDict(section | MODELS[name].option_sections() | fields)


def known_network(name: Any) -> str:
    """The name, which a file may have as anything. Raises ValueError unless it is in MODELS."""
    if not isinstance(name, str) or name not in MODELS:
        shown = " ".join(str(name).split())
        raise ValueError(f"model.name={shown} must be one of {', '.join(MODELS)}")
    return name


# Where a config has sections of options, and the table that they follow from.
TABLES: dict[str, tuple[Mapping[str, Callable], ...]] = {
    "parameterizations": (PARAMETERIZATIONS,),
    "schedule": (SCHEDULES,),
    "loss": (WEIGHTS, LOSSES),
    "timesteps": (TIMESTEPS,),
    "averages": (AVERAGES,),
    "sampling": (SOLVERS, SPACINGS),
}


def data_fields() -> dict[str, Any]:
    """The fields of `config.data` that `make_source` has defaults for."""
    parameters = inspect.signature(make_source).parameters.values()
    of_the_model = ("channels", "num_classes", "resolution")
    return {
        p.name: p.default
        for p in parameters
        if p.default is not p.empty and p.name not in of_the_model
    }


def add_defaults(config: ConfigDict) -> None:
    """Adds what follows from signatures, with its defaults, to what a config does not have yet."""
    if isinstance(config.get("data"), ConfigDict):
        for name, default in data_fields().items():
            if name not in config.data:
                config.data[name] = default
    for place, tables in TABLES.items():
        if place not in config:
            config[place] = ConfigDict()
        if not isinstance(config[place], ConfigDict):
            continue  # which validation will name
        for table in tables:
            for name, options in options_by_name(table).items():
                config[place][name] = ConfigDict(options | options_in(config[place], name))


def options_in(section: ConfigDict, name: str) -> dict[str, Any]:
    """The options that a config has for the entry of this name."""
    found = section.get(name)
    return found.to_dict() if isinstance(found, ConfigDict) else {}
