"""Upgrades configs that older versions wrote."""

from typing import Any

from ml_collections import ConfigDict

from diffusion_jax.config.schema import add_defaults, model_section
from diffusion_jax.models import MODELS

# Fields that older versions lack, and what those versions did.
ADDED = {
    "parameterization": "noise",
    "init_from": "",
    "model.name": "unet",
    "average": "constant",
    "early_sample_minutes": 0.0,
    "timesteps.name": "uniform",
    "ema_start": 0,
    "optimizer.decay": "cosine",
    "loss.error": "squared",
    "loss.weight": "uniform",
    "schedule.first_timestep": 1,
    "schedule.rescale_timesteps": False,
    "sampling.solver": "ddim",
    "sampling.guidance_low": 0.0,
    "sampling.guidance_high": 0.0,
    "sampling.guidance_rescale": 0.0,
    "sampling.dynamic_threshold": 0.0,
    "sampling.autoguidance": "",
    "sampling.autoguidance_checkpoint": 0,
    "sampling.classifier": "",
    "sampling.classifier_checkpoint": 0,
    "sampling.classifier_scale": 1.0,
    "data.smallest_crop": 0.8,
    "data.drop_last": False,
    "max_nan_steps": 1,
    "roll_back": False,
    "shard_state": False,
    "cpu_devices": 1,
}
# Fields whose value "reference" is called "original" by now.
RENAMED = ("behaviour", "model.behaviour", "schedule.behaviour", "loss.kind", "sampling.sampler")


def upgraded(values: dict[str, Any]) -> ConfigDict:
    """The config with these values, written by this version or an older one.

    Values that no version has written, such as a name that is none, are left to validation.
    """
    config = ConfigDict(values)
    for name in RENAMED:
        section, field = _place(config, name)
        if section is not None and section.get(field) == "reference":
            section[field] = "original"
    sampling = config.get("sampling")
    sampling = sampling if isinstance(sampling, ConfigDict) else ConfigDict()
    if "sampler" in sampling:
        sampling["solver"] = sampling.sampler
        del sampling["sampler"]
    if "timesteps" not in config:
        config.timesteps = ConfigDict()
    for name, value in ADDED.items():
        section, field = _place(config, name)
        if section is not None and field not in section:
            section[field] = value
    add_defaults(config)
    if "eta" in sampling:
        for solver in ("ddim", "original"):
            sampling[solver].eta = sampling.eta
        del sampling["eta"]
    model = config.get("model")
    if isinstance(model, ConfigDict) and isinstance(model.name, str) and model.name in MODELS:
        _fill(model, model_section(model.name))
    return config


def _fill(section: ConfigDict, defaults: ConfigDict) -> None:
    """Adds the fields that a section lacks, those of the sections within it, too."""
    for name, default in defaults.items():
        if name not in section:
            section[name] = default
        elif isinstance(default, ConfigDict) and isinstance(section[name], ConfigDict):
            _fill(section[name], default)


def _place(config: ConfigDict, name: str) -> tuple[ConfigDict | None, str]:
    """The section that holds a dotted name, if there is one, and the name within it."""
    *section, field = name.split(".")
    for part in section:
        config = config.get(part)
    return (config if isinstance(config, ConfigDict) else None), field
