"""Samples of a run, as an image set to be evaluated."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int
from ml_collections import ConfigDict

from diffusion_jax.config import overrides
from diffusion_jax.config.experiment import Experiment
from diffusion_jax.evaluation.image_sets import ImageSet
from diffusion_jax.files import json_files
from diffusion_jax.generation import guidance_models
from diffusion_jax.generation.class_labels import check_classes, parse_list, parse_word
from diffusion_jax.images import Uint8Images
from diffusion_jax.runs.datasets import open_source
from diffusion_jax.workdir.parameters import digest

if TYPE_CHECKING:
    from diffusion_jax.runs.run import Run


def samples_of(
    run: "Run",
    experiment: Experiment,
    *,
    count: int,
    labels: str,
    seed: int,
    batch_size: int,
    truncate: bool = False,
) -> ImageSet:
    """Returns an image set of `count` samples of a run.

    Image i depends on the arguments and i alone, not on batch_size.

    Args:
        experiment: of the run, with the settings of sampling.
        labels: see `choose_labels`.
        batch_size: on all devices, rounded up to a multiple of their number.
        truncate: see `images.to_uint8`.
    """
    config = experiment.config
    sampler = run.sampler(experiment, count, batch_size=batch_size)
    chosen = choose_labels(labels, count, config, seed, run.class_names)

    def read(first: int, number: int) -> Uint8Images:
        rows = chosen[first : first + number]
        pixels, _ = run.sample_with(
            sampler, experiment, rows, seed=seed, start=first, truncate=truncate
        )
        return pixels

    about = {
        "workdir": str(run.workdir.resolve()),
        "checkpoint": run.step,
        "parameters": "ema" if run.ema else "raw",
        "parameters_sha256": digest(run.params),
        "labels": labels if guidance_models.classes_of(config, [])[0] else "unconditional",
        "quantizer": "truncate" if truncate else "round",
        "seed": seed,
        "sampling": overrides.settings_in_use(experiment),
        "model": config.model.to_dict(),
        "schedule": config.schedule.to_dict(),
        "parameterization": config.parameterization.to_dict(),
        "loss": config.loss.kind,  # decides whether sampling uses a learned variance
    }
    about |= guidance_models.checksums(sampler.guide_params)
    return ImageSet(count, experiment.shape, read, about, trained_on(run.workdir))


def trained_on(workdir: Path) -> dict[str, Any]:
    """Returns the training data of a run, as in `Description.provenance`; {} if not recorded.

    Raises ValueError, which names the file, if it is damaged.
    """
    path = workdir / "dataset.json"
    if not path.is_file():
        return {}
    remedy = "delete it to evaluate without comparing the reference with the training data"
    data = json_files.read_object(path, remedy=remedy)
    sides, origin = data.get("shape", []), data.get("origin", {})
    whole = isinstance(sides, list) and all(isinstance(side, int) for side in sides)
    if not whole or not isinstance(origin, dict):
        raise ValueError(f"{path} does not describe a dataset; {remedy}")
    return data


def choose_labels(
    choice: str, count: int, config: ConfigDict, seed: int, names: Sequence[str] = ()
) -> Int[np.ndarray, "count"]:
    """Returns one label for each image; 0 if there are no classes.

    Args:
        choice: "random", uniformly; "all", each class in turn; "data", with the frequencies of the
            training data; "none", the null class; or a list, see `class_labels.parse_list`, each
            in turn.
        names: of the run's own classes.

    Raises:
        ValueError: for an unknown class, and for labels of a model without classes.
    """
    classes, names = guidance_models.classes_of(config, list(names))
    word = parse_word(choice, names)
    check_classes(choice, word, classes)
    if not classes:
        return np.zeros(count, np.int32)
    generator = np.random.default_rng([seed, 2])
    match word:
        case "random":
            return generator.integers(classes, size=count, dtype=np.int32)
        case "all":
            return np.arange(count, dtype=np.int32) % classes
        case "data":
            return generator.choice(open_source(config).labels, count)
        case "none":
            return np.full(count, classes, np.int32)
    chosen = np.array(parse_list(choice, classes, names), np.int32)
    return chosen[np.arange(count) % len(chosen)]
