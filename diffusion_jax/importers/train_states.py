"""Train states of imported parameters, and the weights of a run to be exported."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
from jaxtyping import PyTree

from diffusion_jax.config.experiment import Experiment
from diffusion_jax.training.checkpoints import Checkpoints
from diffusion_jax.training.state import TrainState, init_state
from diffusion_jax.workdir.run_files import CHECKPOINTS


@dataclass(frozen=True)
class AdamState:
    """State of AdamW: number of updates, first and second moments."""

    count: int
    mu: PyTree
    nu: PyTree


def make_train_state(
    experiment: Experiment,
    params: PyTree,
    step: int,
    adam: AdamState | None = None,
    ema_params: PyTree = None,
) -> TrainState:
    """Returns a train state on the host.

    Args:
        step: updates made.
        adam: None for a fresh optimizer.
        ema_params: None for the parameters themselves.
    """
    shapes = jax.eval_shape(experiment.require_training().optimizer.init, params)
    opt_state = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    if adam is not None:
        count = np.array(adam.count, np.int32)
        opt_state = optax.tree.set(opt_state, count=count, mu=adam.mu, nu=adam.nu)
    ema_params = params if ema_params is None else ema_params
    return TrainState(np.array(step, np.int32), params, ema_params, opt_state)


def read_weights(
    workdir: Path, experiment: Experiment, *, checkpoint: int | None, raw: bool
) -> tuple[int, PyTree, AdamState | None]:
    """Returns (step, parameters, AdamW state) of a checkpoint, on the host.

    Args:
        checkpoint: its step; None for the newest.
        raw: raw parameters with the optimizer's state, which is None before the first update;
            otherwise EMA parameters and None.
    """
    config, training = experiment.config, experiment.require_training()
    like = jax.eval_shape(
        lambda: init_state(
            experiment.model, training.optimizer, config.seed, config.data.resolution
        )
    )
    with Checkpoints(workdir / CHECKPOINTS) as checkpoints:
        step = checkpoints.newest() if checkpoint is None else checkpoint
        if not raw:
            return step, checkpoints.restore_params(step, like.params, ema=True), None
        state = checkpoints.restore(step, like)
    parts = jax.tree.leaves(state.opt_state, is_leaf=_is_adam)
    (adam,) = filter(_is_adam, parts)
    updates = int(adam.count)
    return step, state.params, AdamState(updates, adam.mu, adam.nu) if updates else None


def _is_adam(part: Any) -> bool:
    return isinstance(part, optax.ScaleByAdamState)
