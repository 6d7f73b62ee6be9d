"""Conversion of the AdamW state from and to the original."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from diffusion_jax.files import torch_reader
from diffusion_jax.importers.original.checkpoint import Checkpoint
from diffusion_jax.importers.original.names import Entry, StateDict, to_params, to_state_dict
from diffusion_jax.importers.train_states import AdamState


def read_optimizer(path: Path, checkpoint: Checkpoint) -> tuple[AdamState, dict[str, Any]]:
    """Reads (AdamW state, optimizer settings for a config) of the model of `checkpoint`.

    The tensors are in the order of the state dict. Raises ValueError if the file is damaged, or
    belongs to another model or another optimizer.
    """
    saved = torch_reader.read(path)
    match saved:
        case {"state": dict(state), "param_groups": [{"params": list(order)} as group]}:
            pass
        case _:
            raise ValueError(
                f"{path} is not the state of an optimizer with one group; give optim...pkl"
            )
    layout = checkpoint.layout
    if not all(type(index) is int for index in order) or order != list(range(len(layout))):
        raise ValueError(
            f"{path} is of another model: its {len(order)} parameters are not numbered as the "
            f"{len(layout)} of the model"
        )
    required = {"amsgrad": False, "maximize": False, "decoupled_weight_decay": True}
    if any(group.get(name, value) is not value for name, value in required.items()):
        raise ValueError(f"{path} is of another optimizer than the original's AdamW")
    if state.keys() != set(order) or not all(isinstance(part, dict) for part in state.values()):
        raise ValueError(f"{path} does not have the state of every parameter of the model")
    tensors_of_model = to_state_dict(checkpoint.params, layout)
    moments: dict[str, StateDict] = {"exp_avg": {}, "exp_avg_sq": {}}
    for index, (name, tensor) in enumerate(tensors_of_model.items()):
        for moment, tensors in moments.items():
            tensors[name] = _moment(path, state[index], moment, name, tensor.shape)
    counts = {_count(path, part) for part in state.values()}
    if len(counts) > 1:
        raise ValueError(f"{path}: parameters were updated different numbers of times: {counts}")
    adam = AdamState(
        count=counts.pop(),
        mu=to_params(moments["exp_avg"], layout),
        nu=to_params(moments["exp_avg_sq"], layout),
    )
    return adam, _optimizer_settings(path, group)


def _moment(path: Path, state: Mapping, moment: str, name: str, shape: tuple) -> np.ndarray:
    """Returns a moment of a parameter."""
    tensor = state.get(moment)
    if not isinstance(tensor, np.ndarray) or tensor.shape != shape:
        found = getattr(tensor, "shape", "missing")
        raise ValueError(f"{path} is of another model: {moment} of {name} is {found}, not {shape}")
    if not np.isfinite(tensor).all() or (moment == "exp_avg_sq" and tensor.min(initial=0) < 0):
        raise ValueError(f"{path} is damaged: {moment} of {name} has non-finite or negative values")
    return tensor


def _count(path: Path, state: Mapping) -> int:
    """Returns the number of updates of a parameter."""
    step = state.get("step")
    if not isinstance(step, int | float | np.ndarray) or np.ndim(step) or not 0 <= step < 2**31:
        raise ValueError(f"{path} is damaged: the number of updates is missing or invalid")
    return int(step)


def _optimizer_settings(path: Path, group: Mapping) -> dict[str, Any]:
    """Returns config fields of the optimizer."""
    match group:
        case {
            "lr": float(rate),
            "betas": (float(b1), float(b2)),
            "eps": float(eps),
            "weight_decay": int() | float() as decay,
        } if all(map(math.isfinite, (rate, b1, b2, eps, decay))):
            return {
                "optimizer.learning_rate": rate,
                "optimizer.b1": b1,
                "optimizer.b2": b2,
                "optimizer.eps": eps,
                "optimizer.weight_decay": float(decay),
            }
    raise ValueError(
        f"{path} is not of AdamW: lr, betas, eps or weight_decay is missing or not a number"
    )


def to_optimizer_state(config: ConfigDict, adam: AdamState, layout: list[Entry]) -> dict:
    """Returns the state as `torch.optim.AdamW.state_dict()` does, PyTorch 1.12 and later."""
    mu, nu = to_state_dict(adam.mu, layout), to_state_dict(adam.nu, layout)
    count = np.array(adam.count, np.float32)
    optimizer = config.optimizer
    group = {
        "lr": optimizer.learning_rate,
        "betas": (optimizer.b1, optimizer.b2),
        "eps": optimizer.eps,
        "weight_decay": optimizer.weight_decay,
        "amsgrad": False,
        "maximize": False,
        "foreach": None,
        "capturable": False,
        "differentiable": False,
        "fused": None,
        "decoupled_weight_decay": True,
        "params": list(range(len(layout))),
    }
    state = {
        index: {"step": count, "exp_avg": mu[entry.name], "exp_avg_sq": nu[entry.name]}
        for index, entry in enumerate(layout)
    }
    return {"state": state, "param_groups": [group]}
