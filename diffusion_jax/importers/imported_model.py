"""Imported model: result of the importers that read one file with a config."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxtyping import PyTree
from ml_collections import ConfigDict

from diffusion_jax.config.experiment import Experiment
from diffusion_jax.config.schema import model_section


@dataclass(frozen=True)
class ImportedModel:
    """Parameters from a file, with the experiment that they belong to.

    Args:
        experiment: of the config with `settings`.
        params: of the experiment's network, float32 NumPy arrays.
        settings: config fields that the file determines, by dotted name.
        class_names: in the order of the labels, if known.
        notes: lines for the user.
    """

    experiment: Experiment
    params: PyTree
    settings: Mapping[str, Any]
    class_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def build_experiment(config: ConfigDict, settings: Mapping[str, Any], path: Path) -> Experiment:
    """Builds the experiment of a config with the settings from the file `path`.

    Raises ValueError, which names the file, if they do not make a valid config.
    """
    try:
        return Experiment.from_config(with_settings(config, settings))
    except ValueError as error:
        raise ValueError(
            f"{path} does not fit the config: {error}. Describe the model with --config=CONFIG or "
            "--config.FIELD=VALUE"
        ) from None


def with_settings(config: ConfigDict, settings: Mapping[str, Any]) -> ConfigDict:
    """Returns a copy of the config with these fields.

    Another model.name starts from the defaults of that network.
    """
    copy = config.copy_and_resolve_references()
    name = settings.get("model.name", copy.model.name)
    if name != copy.model.name:
        with copy.unlocked():
            copy.model = model_section(name)
    copy.update_from_flattened_dict(settings)
    return copy
