"""Schema of configs: options from signatures, and checks of names and types.

`configs/base.py` lists the fields of a config. A table such as SOLVERS maps names to functions or
dataclasses; the options of an entry are its keyword-only parameters, or its fields, with their
defaults. A new entry or a new option needs no line in a config.
"""

import inspect
import math
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import is_dataclass
from typing import Any

from ml_collections import ConfigDict, FieldReference, config_dict

from diffusion_jax.diffusion.losses import LOSSES
from diffusion_jax.diffusion.parameterizations import PARAMETERIZATIONS
from diffusion_jax.diffusion.schedules import SCHEDULES
from diffusion_jax.diffusion.timestep_samplers import TIMESTEP_SAMPLERS
from diffusion_jax.diffusion.weights import WEIGHTS
from diffusion_jax.models import MODELS
from diffusion_jax.sampling import SOLVERS, SPACINGS
from diffusion_jax.training.ema import EMA_WEIGHTS

# Sections with options, and the tables that define them.
TABLES: dict[str, tuple[Mapping[str, Callable], ...]] = {
    "parameterization": (PARAMETERIZATIONS,),
    "schedule": (SCHEDULES,),
    "loss": (WEIGHTS, LOSSES),
    "timesteps": (TIMESTEP_SAMPLERS,),
    "ema": (EMA_WEIGHTS,),
    "sampling": (SOLVERS, SPACINGS),
}
# Parameters that are not options, since several entries of a table share one field of the config.
SHARED = ("sigma_data", "original_quirks")

LONGEST_VALUE = 200  # characters of a value in an error


def options_of(function: Callable) -> dict[str, Any]:
    """Returns the options of an entry of a table, with their defaults."""
    return {name: parameter.default for name, parameter in _parameters(function).items()}


def options_by_name(table: Mapping[str, Callable]) -> dict[str, dict[str, Any]]:
    """Returns {name: options} of the entries of a table that have options."""
    options = {name: options_of(function) for name, function in table.items()}
    return {name: found for name, found in options.items() if found}


def options_in(section: ConfigDict, name: str) -> dict[str, Any]:
    """Returns the values of the options `section.NAME`; {} if the entry has none."""
    found = section.get(name)
    return found.to_dict() if isinstance(found, ConfigDict) else {}


def option_section(function: Callable) -> ConfigDict:
    """Returns a config section with the options of an entry of a table."""
    return ConfigDict({name: _field(found) for name, found in _parameters(function).items()})


def model_section(name: str, **fields: Any) -> ConfigDict:
    """Returns the section `config.model` of a network: its name and its constructor's arguments.

    Args:
        name: one of MODELS.
        fields: arguments that differ from the constructor's defaults; channels and num_classes
            start from 3 and 0.

    Raises:
        ValueError: for an unknown name.
    """
    section: dict[str, Any] = {"name": check_network(name), "channels": 3}
    section["num_classes"] = FieldReference(0)
    for parameter in inspect.signature(MODELS[name]).parameters.values():
        if parameter.name not in (*section, "parent", *SHARED):
            section[parameter.name] = _field(parameter)
    return ConfigDict(section | MODELS[name].option_sections() | fields)


def check_network(name: Any) -> str:
    """Returns the name. Raises ValueError unless it is in MODELS."""
    if not isinstance(name, str) or name not in MODELS:
        raise ValueError(f"model.name={shorten(name)} must be one of {', '.join(MODELS)}")
    return name


def add_options(config: ConfigDict) -> None:
    """Adds the options of all tables, with their defaults."""
    for section, tables in TABLES.items():
        for table in tables:
            for name, function in table.items():
                if _parameters(function):
                    config[section][name] = option_section(function)


def from_values(values: Mapping[str, Any], base: ConfigDict) -> ConfigDict:
    """Inverts `ConfigDict.to_dict` after a round trip through JSON.

    Missing options, such as the options of a new solver, have their defaults. Raises ValueError for
    any other missing field, an unknown field, or a value of another type.
    """
    model = values.get("model")
    if not isinstance(model, Mapping):
        raise ValueError(f"config.model={shorten(model)} must be a section")
    with base.unlocked():
        base.model = model_section(check_network(model.get("name")))
    _fill("config", base, values)
    return base


def check_fields(config: ConfigDict, base: ConfigDict) -> None:
    """Raises ValueError, in one line, unless the config has the fields of base, of their types.

    Numbers must be finite, and whole ones other than the seed less than 2^31. The section
    `config.model` is compared with the arguments of the network that it names.
    """
    if not isinstance(config.get("model"), ConfigDict):
        raise ValueError(f"config.model={shorten(config.get('model'))} must be a section")
    with base.unlocked():
        base.model = model_section(check_network(config.model.get("name")))
    _check_section("config", config, base)


def flatten(section: Mapping | ConfigDict, prefix: str = "") -> dict[str, Any]:
    """Returns the values by dotted name, such as "model.width"."""
    values = {}
    for name, value in section.items():
        if isinstance(value, Mapping | ConfigDict):
            values.update(flatten(value, f"{prefix}{name}."))
        else:
            values[prefix + name] = value
    return values


def shorten(value: Any) -> str:
    """Returns a value as one line of at most LONGEST_VALUE characters."""
    return " ".join(str(value).split())[:LONGEST_VALUE]


def choose(table: Mapping[str, Any] | Iterable[str], name: Any, field: str) -> Any:
    """Returns table[name]. Raises ValueError, with the known names, if there is none."""
    if not isinstance(name, str) or name not in table:
        raise ValueError(f"{field}={shorten(name)} must be one of {', '.join(table)}")
    return table[name] if isinstance(table, Mapping) else name


def _parameters(function: Callable) -> dict[str, inspect.Parameter]:
    parameters = inspect.signature(function).parameters
    return {
        name: parameter
        for name, parameter in parameters.items()
        if name not in SHARED
        and (is_dataclass(function) or parameter.kind is parameter.KEYWORD_ONLY)
    }


def _field(parameter: inspect.Parameter) -> Any:
    """Returns the default of a parameter, as a reference if the parameter may also be None."""
    kinds = typing.get_args(parameter.annotation)
    if types.NoneType not in kinds:
        return parameter.default
    if parameter.default is not None:
        return FieldReference(parameter.default)
    kind = next(kind for kind in kinds if kind is not types.NoneType)
    if typing.get_origin(kind) is typing.Annotated:
        kind = typing.get_args(kind)[0]
    return config_dict.placeholder(typing.get_origin(kind) or kind)


def _fill(where: str, section: ConfigDict, values: Any) -> None:
    of_options = {name for name, field in section.items() if isinstance(field, ConfigDict)}
    _check_keys(where, values, section, {*section} if where.count(".") > 1 else of_options)
    fields = dict(section.items(preserve_field_references=True))
    for name, value in values.items():
        if isinstance(section[name], ConfigDict):
            _fill(f"{where}.{name}", section[name], value)
        else:
            value = tuple(value) if isinstance(value, list) else value
            _check_value(f"{where}.{name}".removeprefix("config."), value, fields[name])
            section[name] = value


def _check_section(where: str, section: Any, base: ConfigDict) -> None:
    _check_keys(where, section, base)
    fields = dict(base.items(preserve_field_references=True))
    for name, value in section.items():
        field = f"{where}.{name}"
        if isinstance(base[name], ConfigDict):
            _check_section(field, value, base[name])
        else:
            _check_value(field.removeprefix("config."), value, fields[name])


def _check_keys(
    where: str, section: Any, base: ConfigDict, optional: Set[str] = frozenset()
) -> None:
    if not isinstance(section, ConfigDict | Mapping):
        raise ValueError(f"{where}={shorten(section)} must be a section of fields")
    if unknown := set(section.keys()) - set(base.keys()):
        known, hint = ", ".join(sorted(base)), ""
        if where == "config.model":
            hint = f" (of {base.name}; configs/digits.py:NAME shows how to choose another)"
        first = shorten(min(map(str, unknown)))
        raise ValueError(f"Unknown key {where}.{first}; known keys: {known}{hint}")
    if missing := set(base.keys()) - set(section.keys()) - optional:
        raise ValueError(f"{where}.{min(missing)} is missing; start from configs/base.py")


def _check_value(name: str, value: Any, default: Any) -> None:
    """Raises ValueError for a value of another type than the base's default.

    default: a FieldReference marks a field that may be None.
    """
    optional = isinstance(default, FieldReference)
    kind = default.get_type() if optional else type(default)
    if value is None and optional:
        return
    allowed = (int, float) if kind is float else (kind,)
    if not isinstance(value, allowed) or (isinstance(value, bool) and kind is not bool):
        wanted = f"of type {kind.__name__}{' or None' if optional else ''}"
        raise ValueError(f"{name}={shorten(value)} must be {wanted}")
    for number in _numbers(value):
        if isinstance(number, float) and not math.isfinite(number):
            raise ValueError(f"{name}={number} must be finite")
        if isinstance(number, int) and not abs(number) < 2**31 and name != "seed":
            raise ValueError(f"{name}={number} must be less than 2^31")


def _numbers(value: Any) -> Iterator[int | float]:
    for item in value if isinstance(value, tuple) else (value,):
        if isinstance(item, int | float):
            yield item
