"""Configs that leave the number of classes to the data."""

from ml_collections import ConfigDict

from diffusion_jax.config import build
from diffusion_jax.config.validation import validate

FROM_DATA = -1  # of model.num_classes


def resolve_num_classes(config: ConfigDict) -> ConfigDict:
    """The config, or a copy with as many classes as the data has where it says -1.

    Without classes there is nothing to guide to, and sampling.guidance becomes 0. Raises ValueError
    for other mistakes in the config before the data are opened, and what `build.open_source` does.
    """
    if config.model.get("num_classes") != FROM_DATA:
        return config
    found = config.copy_and_resolve_references()
    found.model.num_classes = 1  # stands for any number: some blocks need classes
    validate(found)
    found.model.num_classes = 0
    found.model.num_classes = len(build.open_source(found).class_names)
    if not found.model.num_classes:
        found.sampling.guidance = 0.0
    return found
