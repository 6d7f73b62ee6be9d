"""Export of runs to files that the original loads."""

import json
from pathlib import Path
from typing import Any

from jaxtyping import PyTree
from ml_collections import ConfigDict

from diffusion_jax.config.experiment import Experiment
from diffusion_jax.config.schema import flatten
from diffusion_jax.files import atomic, torch_writer
from diffusion_jax.importers.original import hyperparameters
from diffusion_jax.importers.original.names import entries, to_state_dict
from diffusion_jax.importers.original.optimizer import to_optimizer_state
from diffusion_jax.importers.train_states import AdamState
from diffusion_jax.models.unet import UNet

# Values with which the original computes the same as a run, by field.
COMPUTED: dict[str, tuple[Any, ...]] = {
    "original_quirks": (True,),
    "model.time_embedding": ("auto", "published", "head", "sin"),
    "model.options.conv.expansion": (2,),
    "parameterization.name": ("eps",),
    "schedule.name": ("cosine", "linear"),
    "schedule.first_timestep": (1,),
    "schedule.rescale_timesteps": (False,),
}


def check_exportable(config: ConfigDict) -> None:
    """Raises ValueError for a model that the original computes differently, or lacks."""
    model = config.model
    if model.name != "unet":
        raise ValueError(
            f"model.name={model.name}: the original has no such network; only runs of unet can be "
            "exported to it. --to safetensors takes any"
        )
    fields = flatten(config)
    for name, values in COMPUTED.items():
        if fields[name] not in values:
            allowed = " or ".join(map(str, values))
            raise ValueError(
                f"{name}={fields[name]}: the original computes a different result from the same "
                f"weights; only runs with {name}={allowed} can be exported to it. --to safetensors "
                "takes any"
            )


def write_checkpoint(
    folder: Path,
    experiment: Experiment,
    params: PyTree,
    *,
    epoch: int,
    step: int,
    adam: AdamState | None = None,
) -> list[Path]:
    """Writes model…pkl, model_params…json and, with `adam`, optim…pkl; returns their paths.

    Raises ValueError for a model that the original computes differently, and FileExistsError if a
    file already exists.
    """
    config = experiment.config
    check_exportable(config)
    assert isinstance(experiment.model, UNet)  # by check_exportable
    suffix = (f"_{epoch}e" if epoch else "") + (f"_{step}s" if step else "")
    layout = entries(experiment.model, params)
    content: dict[Path, Any] = {
        folder / f"model{suffix}.pkl": to_state_dict(params, layout),
        folder / f"model_params{suffix}.json": hyperparameters.to_json(config, epoch, step),
    }
    if adam is not None:
        content[folder / f"optim{suffix}.pkl"] = to_optimizer_state(config, adam, layout)
    for path in content:
        if path.exists():
            raise FileExistsError(f"{path} already exists; choose another --out, or delete it")
    folder.mkdir(parents=True, exist_ok=True)
    for path, value in content.items():
        if path.suffix == ".pkl":
            torch_writer.write(path, value)
        else:
            atomic.write_text(path, json.dumps(value))
    return list(content)
