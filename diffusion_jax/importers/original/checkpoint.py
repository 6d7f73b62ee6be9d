"""Checkpoint of the original: state dict (.pkl) and hyperparameters (.json)."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from diffusion_jax.files import torch_reader
from diffusion_jax.importers.original import hyperparameters
from diffusion_jax.importers.original.names import (
    Entry,
    StateDict,
    entries,
    to_params,
    to_state_dict,
)
from diffusion_jax.models import UNet
from diffusion_jax.training.state import param_shapes


@dataclass(frozen=True)
class Checkpoint:
    """Converted checkpoint of the original.

    Args:
        settings: config fields by dotted name.
        model: the network; apply it with `model.apply({"params": params}, x, timesteps, labels)`.
        params: of the network.
        layout: see `entries`.
        epoch, step: as saved; the original's steps are micro-batches.
        contradictions: between the file name of the .pkl and the .json.
    """

    settings: dict[str, Any]
    model: UNet
    params: PyTree
    layout: list[Entry]
    epoch: int
    step: int
    contradictions: list[str]


def read_checkpoint(
    model_path: Path, json_path: Path, *, time_embedding: str = "published"
) -> Checkpoint:
    """Reads a model of the original. Raises ValueError if the files are damaged or do not match.

    time_embedding: "published", "head" or "sin", see `original_sinusoidal`; the files do not
    record it.
    """
    if time_embedding not in ("published", "head", "sin"):
        raise ValueError(f"time_embedding={time_embedding!r} must be published, head or sin")
    state = torch_reader.read(model_path)
    if not isinstance(state, dict) or not _all_tensors(state):
        raise ValueError(f"{model_path} is not the state dict of a model")
    if any(name.startswith("module.") for name in state):
        raise ValueError(
            f"{model_path} has names that begin with 'module.', from DistributedDataParallel; save "
            "the state dict of its .module"
        )
    values = hyperparameters.read(json_path, model_path, state)
    settings = hyperparameters.settings(values, json_path)
    settings |= {"original_quirks": True, "model.time_embedding": time_embedding}
    _check_summary(settings, state, json_path, model_path)
    try:
        model = _model(settings)
        layout, like = _layout(model)
    except (ValueError, TypeError, OverflowError) as error:
        reason = str(error).splitlines()[0][:200]
        raise ValueError(f"{json_path} does not describe a valid model: {reason}") from None
    _check_shapes(state, to_state_dict(like, layout), json_path, model_path)
    state = {name: np.asarray(tensor, np.float32) for name, tensor in state.items()}
    for name, tensor in state.items():
        if not np.isfinite(tensor).all():
            raise ValueError(f"{model_path}: {name[:100]} contains non-finite values")
    return Checkpoint(
        settings=settings,
        model=model,
        params=to_params(state, layout),
        layout=layout,
        epoch=values["epoch"] or 0,
        step=values["step"] or 0,
        contradictions=hyperparameters.contradictions(values, model_path),
    )


def _model(settings: Mapping[str, Any]) -> UNet:
    """Returns the network of the settings."""
    prefix = "model."
    fields = {k.removeprefix(prefix): v for k, v in settings.items() if k.startswith(prefix)}
    return UNet(**fields, original_quirks=settings["original_quirks"])


def _layout(model: UNet) -> tuple[list[Entry], PyTree]:
    """Returns the tensors of a model, and placeholder parameters without storage."""
    # Parameter shapes do not depend on the resolution; this one fits any depth and window.
    side = model.window * 2**model.levels
    shapes = param_shapes(model, side)
    like = jax.tree.map(lambda leaf: np.broadcast_to(np.float32(0), leaf.shape), shapes)
    return entries(model, like), like


def _check_summary(
    settings: Mapping[str, Any], state: StateDict, json_path: Path, model_path: Path
) -> None:
    """Compares the .json with the shapes of a few tensors, before the model is built."""
    found = hyperparameters.inferred_summary(state)
    for key, value in hyperparameters.summary(settings).items():
        if value != found[key]:
            raise ValueError(
                f"{json_path} and {model_path} are not of one model: {key} is {value} in the "
                f"first, and {found[key]} in the tensors of the other"
            )


def _check_shapes(state: StateDict, wanted: StateDict, json_path: Path, model_path: Path) -> None:
    """Raises ValueError unless the tensors have the names and shapes of the model."""
    for name in sorted(state.keys() | wanted.keys()):
        found = state[name].shape if name in state else "missing"
        expected = wanted[name].shape if name in wanted else "no such tensor"
        if found != expected:
            raise ValueError(
                f"{model_path} does not fit {json_path}: {name[:100]!r} is {found}, expected: "
                f"{expected}"
            )


def _all_tensors(state: Mapping) -> bool:
    return all(isinstance(k, str) and isinstance(v, np.ndarray) for k, v in state.items())
