"""Importer of ADM's U-Net from the state dicts of OpenAI's programs and of nice-diffusion.

OpenAI's improved-diffusion and guided-diffusion save 64x64_diffusion.pt, ema_0.9999_500000.pt, and
so on. edogariu/nice-diffusion, whose names differ, saves EMNIST_model_params.pt. The files do not
record the architecture, so a config must describe it.
"""

import string
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from diffusion_jax.importers.adm_names import ARRAYS, NICE, OPENAI, Names, block_names, source_of
from diffusion_jax.importers.imported_model import ImportedModel, build_experiment
from diffusion_jax.importers.state_dicts import Source, dense, fill, plain, read_state_dict
from diffusion_jax.models import ADM, NoisyClassifier
from diffusion_jax.training.state import param_shapes


def read_openai(path: Path, config: ConfigDict) -> ImportedModel:
    """Reads a model of improved-diffusion or guided-diffusion, or a classifier of the latter."""
    if config.model.name == "noisy_classifier":
        return _read_classifier(path, config)
    return _read(path, config, OPENAI)


def read_nice_diffusion(path: Path, config: ConfigDict) -> ImportedModel:
    """Reads a model of nice-diffusion.

    With model.learned_null its class 0 is the null class, so class i + 1 becomes class i.
    """
    imported = _read(path, config, NICE)
    characters = {26: string.ascii_uppercase, 10: string.digits}
    names = characters.get(imported.settings["model.num_classes"], "")
    notes = ()
    if imported.settings["model.learned_null"]:
        notes = ("its class 0 is the null class, and its class i is i - 1 here.",)
    is_emnist = config.data.name.startswith("tfds:emnist")
    return replace(imported, class_names=tuple(names) if is_emnist else (), notes=notes)


def _read(path: Path, config: ConfigDict, names: Names) -> ImportedModel:
    if config.model.name != "adm":
        raise ValueError(f"model.name={config.model.name} must be adm; choose another --config")
    state = read_state_dict(path, "ema", "model", "state_dict")
    settings = _settings(state, config, names, path)
    experiment = build_experiment(config, settings, path)
    model, side = experiment.model, experiment.config.data.resolution
    assert isinstance(model, ADM | NoisyClassifier)
    if model.learned_null and names is NICE:
        state[f"{names.label}.weight"] = np.roll(state[f"{names.label}.weight"], -1, axis=0)
    blocks = block_names(model, side, names)
    like = param_shapes(model, side)
    params = fill(like, state, lambda name: source_of(name, blocks, names), path)
    return ImportedModel(experiment, params, settings)


def _settings(
    state: Mapping[str, np.ndarray], config: ConfigDict, names: Names, path: Path
) -> dict[str, Any]:
    """Infers config settings from the shapes of a few tensors."""

    def side(name: str, axis: int) -> int:
        if name not in state or state[name].ndim <= axis:
            raise ValueError(
                f"{path} has no {name}, so it is not of this program. A classifier needs "
                "--config=configs/adm64_classifier.py"
            )
        return state[name].shape[axis]

    channels, outputs = side(f"{names.down}.0.0.weight", 1), side("out.2.weight", 0)
    channels //= 2 if config.model.low_resolution else 1
    rows = 0
    if f"{names.label}.weight" in state:
        rows = side(f"{names.label}.weight", 0) - config.model.learned_null
    return {
        "model.channels": channels,
        "model.width": side(f"{names.time}.0.weight", 1),
        "model.num_classes": rows,
        "model.learn_variance": outputs == 2 * channels,
        "model.learned_null": bool(rows) and config.model.learned_null,
    }


def _read_classifier(path: Path, config: ConfigDict) -> ImportedModel:
    state = read_state_dict(path)
    pool: str = config.model.pool
    head = {"attention": "out.2.c_proj", "mean": "out.3"}.get(pool, pool)
    sides = {"channels": (f"{OPENAI.down}.0.0", 1), "width": (f"{OPENAI.time}.0", 1)}
    sides["num_classes"] = (head, 0)
    settings = {}
    for field, (name, axis) in sides.items():
        if f"{name}.weight" not in state or state[f"{name}.weight"].ndim < 2:
            raise ValueError(
                f"{path} has no {name}.weight; a classifier with model.pool={pool} is expected. "
                "Describe another with --config.model.pool=mean, say, or --config"
            )
        settings[f"model.{field}"] = state[f"{name}.weight"].shape[axis]
    experiment = build_experiment(config, settings, path)
    model, side = experiment.model, experiment.config.data.resolution
    assert isinstance(model, ADM | NoisyClassifier)
    blocks = block_names(model, side, OPENAI)
    like = param_shapes(model, side)
    params = fill(like, state, lambda name: _source_in_classifier(name, blocks), path)
    return ImportedModel(experiment, params, settings)


def _source_in_classifier(path: tuple[str, ...], blocks: Mapping[str, str]) -> Source:
    """Returns the source of a parameter of the classifier."""
    array = ARRAYS.get(path[-1], "weight")
    if path == ("pool", "positions"):
        return Source("out.2.positional_embedding", dense)
    if path[0] in ("pool", "head"):
        name = "out.3" if path[0] == "head" else f"out.2.{path[1].replace('head', 'c')}_proj"
        # 1x1 convolutions.
        return Source(f"{name}.{array}", _pointwise if array == "weight" else plain)
    return source_of(path, blocks, OPENAI)


def _pointwise(array: np.ndarray) -> np.ndarray:
    """Converts the kernel of a 1x1 convolution, (out, in, 1, ...), to (in, out)."""
    return array.reshape(array.shape[0], -1).T
