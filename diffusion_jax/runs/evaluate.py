"""The images that a run's model draws, as a set to be evaluated."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int
from ml_collections import ConfigDict

from diffusion_jax import parallel
from diffusion_jax.config import build, overrides
from diffusion_jax.evaluation.image_sets import ImageSet
from diffusion_jax.files import json_files
from diffusion_jax.generation import guidance_models
from diffusion_jax.generation.class_labels import parse_list
from diffusion_jax.generation.pixels import Origin, finite_pixels
from diffusion_jax.generation.sampler import Generator
from diffusion_jax.images import Uint8Images
from diffusion_jax.workdir.classes import load_classes
from diffusion_jax.workdir.parameters import digest, load_params


def of_run(
    workdir: Path,
    config: ConfigDict,
    *,
    count: int,
    checkpoint: int | None,
    ema: bool,
    labels: str,
    seed: int,
    truncate: bool,
    batch_size: int,
) -> ImageSet:
    """`count` images of a run, with the sampling settings of `config`.

    Image i depends only on the arguments and i, not on how many are drawn at a time. labels: see
    `choose_labels`. truncate: see `images.to_uint8`. batch_size: global, rounded up
    to a multiple of the number of devices. Raises FileNotFoundError or ValueError if there is no
    such checkpoint, or it is of another model.
    """
    batch_size = parallel.round_up(batch_size)
    generator = Generator.from_config(config, batch_size=batch_size)
    step, params = load_params(workdir, config, checkpoint=checkpoint, ema=ema)
    chosen = choose_labels(labels, count, config, seed, load_classes(workdir))
    origin = Origin(workdir, step, config.sampling.guidance)

    def read(first: int, number: int) -> Uint8Images:
        drawn, _ = generator(
            params,
            chosen[first : first + number],
            seed=seed,
            start=first,
        )
        return finite_pixels(drawn, origin, truncate=truncate)

    about = {
        "workdir": str(workdir.resolve()),
        "checkpoint": step,
        "parameters": "ema" if ema else "raw",
        "parameters_sha256": digest(params),
        "labels": labels
        if guidance_models.classes_of(config, [])[0]
        else "the model has no classes",
        "quantizer": "truncate" if truncate else "round",
        "seed": seed,
        "sampling": overrides.in_use(config),
        "model": config.model.to_dict(),
        "schedule": config.schedule.to_dict(),
        "parameterization": config.parameterization,
        "parameterizations": config.parameterizations.to_dict(),
        "loss": config.loss.kind,  # decides whether sampling uses a learned variance
    }
    about |= guidance_models.digests(generator.guide_params)
    shape = (config.data.resolution, config.data.resolution, config.model.channels)
    return ImageSet(count, shape, read, about, trained_on(workdir))


def trained_on(workdir: Path) -> dict[str, Any]:
    """What a run was trained on, as in `Description.provenance`; {} if it does not say.

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
    asked: str, count: int, config: ConfigDict, seed: int, names: Sequence[str] = ()
) -> Int[np.ndarray, "count"]:
    """One label for each image; 0 if there are no classes to ask for.

    asked: "random", drawn uniformly; "all", each class in turn; "data", drawn with the frequencies
    of the training data; "none", the null class; or a list, see `labels.parse_list`, each in turn.
    names: of the run's own classes. Raises ValueError for a class that there is not.
    """
    classes, names = guidance_models.classes_of(config, list(names))
    if not classes:
        return np.zeros(count, np.int32)
    generator = np.random.default_rng([seed, 2])
    match asked:
        case "random":
            return generator.integers(classes, size=count, dtype=np.int32)
        case "all":
            return np.arange(count, dtype=np.int32) % classes
        case "data":
            return generator.choice(build.open_source(config).labels, count)
        case "none":
            return np.full(count, classes, np.int32)
    listed = np.array(parse_list(asked, classes, names), np.int32)
    return listed[np.arange(count) % len(listed)]
