"""A trained network, and its parameters."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
from jaxtyping import PyTree
from ml_collections import ConfigDict

from diffusion_jax import parallel
from diffusion_jax.diffusion.parametrisations import Parametrisation
from diffusion_jax.diffusion.schedules import Schedule
from diffusion_jax.models import Network
from diffusion_jax.runs import build, run_folder
from diffusion_jax.training.checkpoints import Checkpoints
from diffusion_jax.training.state import init_params


def load_params(
    workdir: Path, config: ConfigDict, *, checkpoint: int | None = None, ema: bool = True
) -> tuple[int, PyTree]:
    """(step, parameters) of one checkpoint of a run, on every device.

    checkpoint: its step; None is the newest. ema: the averaged parameters, or else the raw ones.
    Raises FileNotFoundError if there is none, ValueError if it is not of the config's model.
    """
    model = build.make_model(config)
    like = jax.eval_shape(lambda: init_params(model, config.seed, config.data.resolution))
    with Checkpoints(workdir / run_folder.CHECKPOINTS) as checkpoints:
        step = checkpoints.newest() if checkpoint is None else checkpoint
        return step, parallel.replicate(checkpoints.restore_params(step, like, ema=ema))


def digest(params: PyTree) -> str:
    """SHA-256 of the parameters; a workdir may hold different runs at different times."""
    total = hashlib.sha256()
    for leaf in jax.tree.leaves(jax.device_get(params)):
        total.update(np.ascontiguousarray(leaf))
    return total.hexdigest()


@dataclass(frozen=True)
class Trained:
    """A network, with the schedule and the parametrisation that it was trained with."""

    model: Network
    schedule: Schedule
    parametrisation: Parametrisation

    @classmethod
    def from_config(cls, config: ConfigDict) -> "Trained":
        return cls(
            build.make_model(config),
            build.make_schedule(config),
            build.make_parametrisation(config),
        )

    @property
    def takes_condition(self) -> bool:
        return self.model.example_condition(1) is not None
