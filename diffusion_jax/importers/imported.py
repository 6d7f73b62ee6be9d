"""What importers of one file and a config have in common."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
from jaxtyping import PyTree
from ml_collections import ConfigDict

from diffusion_jax.config.experiment import make_model
from diffusion_jax.config.schema import model_section
from diffusion_jax.models import Network
from diffusion_jax.training.state import init_params


@dataclass(frozen=True)
class Imported:
    """What an importer returns.

    params: the parameters of the config's network, float32 NumPy arrays. averaged: their average,
    if the file has both. settings: fields of the config that the file tells, by dotted name. step:
    updates made so far, if the file tells. class_names: in the order of the labels, if known.
    notes: lines for the user.
    """

    params: PyTree
    averaged: PyTree = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    step: int = 0
    class_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def network_of(config: ConfigDict, path: Path) -> Network:
    """The config's network. Raises ValueError, which names the file, if there can be none."""
    try:
        model = make_model(config)
        model.check(config.data.resolution)
    except ValueError as error:
        raise ValueError(
            f"{path} does not fit the config: {error}; say --config=CONFIG or "
            "--config.model.FIELD=VALUE as the model was trained"
        ) from None
    return model


def shapes_of(config: ConfigDict, path: Path) -> PyTree:
    """The shapes of the parameters of a config's network; costs neither memory nor time.

    Raises what `network_of` does.
    """
    model = network_of(config, path)
    return jax.eval_shape(lambda: init_params(model, config.seed, config.data.resolution))


def with_settings(config: ConfigDict, settings: Mapping[str, Any]) -> ConfigDict:
    """A copy of the config with these fields.

    Another model.name starts from the defaults of that network.
    """
    copy = config.copy_and_resolve_references()
    name = settings.get("model.name", copy.model.name)
    if name != copy.model.name:
        with copy.unlocked():
            copy.model = model_section(name)
    copy.update_from_flattened_dict(settings)
    return copy
