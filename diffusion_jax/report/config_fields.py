"""Fields of configs, and the fields in which configs differ."""

import json
from collections.abc import Mapping, Sequence

from ml_collections import ConfigDict

from diffusion_jax.config.schema import flatten, model_section
from diffusion_jax.models import MODELS

MISSING = "—"  # the value of a field that a config lacks

Fields = Mapping[str, str]  # from a field's dotted name to its value, as it would be typed


def fields_of(config: ConfigDict) -> dict[str, str]:
    """Returns the fields of a config; tuples and lists look the same."""
    flat = flatten(json.loads(json.dumps(config.to_dict())))
    return {name: repr(value) if value == "" else str(value) for name, value in flat.items()}


def differing(configs: Sequence[Fields]) -> list[tuple[str, ...]]:
    """Returns (field, its value in each config) for each field in which the configs differ."""
    names = sorted(set().union(*configs))
    rows = [(name, *(config.get(name, MISSING) for config in configs)) for name in names]
    return [row for row in rows if len(set(row[1:])) > 1]


def changed_from(defaults: ConfigDict, config: ConfigDict) -> list[tuple[str, ...]]:
    """Returns (field, default, value) for each field that differs from the defaults.

    The fields of another network are compared with that network's own defaults.
    """
    base, here = fields_of(defaults), fields_of(config)
    network, default_network = here.get("model.name", ""), base["model.name"]
    if network != default_network and network in MODELS:
        own = fields_of(ConfigDict({"model": model_section(network)}))
        base = {name: value for name, value in base.items() if not name.startswith("model.")}
        base |= own | {"model.name": default_network}
    return differing([base, here])
