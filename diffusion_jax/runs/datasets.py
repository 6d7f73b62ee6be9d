"""Datasets opened by config or by name, all of whose images are read at one size."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Int
from ml_collections import ConfigDict

from diffusion_jax.config import build
from diffusion_jax.config.num_classes import resolve_num_classes
from diffusion_jax.config.validation import validate
from diffusion_jax.data import Source, make_source
from diffusion_jax.generation.class_labels import captions
from diffusion_jax.images import Picture, Uint8Images, grid
from diffusion_jax.pictures.captions import captioned

SHOWN = 8  # classes of a picture of examples


@dataclass(frozen=True)
class Dataset:
    """A source of images. read: from indices to images. provenance: what they are and how cut."""

    source: Source
    read: Callable[[Int[np.ndarray, "batch"]], Uint8Images]
    provenance: dict[str, Any]


def of_config(config: ConfigDict) -> Dataset:
    """The training data of a config; images that training crops at random are cropped once."""
    config = resolve_num_classes(config)
    validate(config)
    source = build.open_source(config)
    provenance = source.description.provenance()
    if not source.description.shape[0]:  # cropped at random, see read_squares
        side = config.data.resolution
        provenance["shape"] = [side, side, config.model.channels]
        provenance["origin"] |= {"smallest_crop": config.data.smallest_crop, "seed": config.seed}
    return Dataset(source, partial(build.read_squares, config, source), provenance)


def of_name(name: str, *, split: str | None, data_dir: str | None) -> Dataset:
    """The dataset `name`, as in config.data.name, in its own size.

    split: None is the training split. Raises ValueError for folders, whose images have any size.
    """
    if name.startswith("folder:"):
        raise ValueError(
            f"A folder needs a size; give it as --config configs/folder.py "
            f"--config.data.name={name} --config.data.resolution=64, say"
        )
    split = split or ("all" if name == "digits" else "train")
    source = make_source(name, split=split, data_dir=data_dir)

    def read(indices: Int[np.ndarray, "batch"]) -> Uint8Images:
        return source.read(indices)["image"]

    return Dataset(source, read, source.description.provenance())


def examples(dataset: Dataset) -> Picture:
    """A grid of rows of eight: a captioned row of each of some classes, or eight alike."""
    source, names = dataset.source, list(dataset.source.class_names)
    rows = np.unique(np.linspace(0, max(0, len(names) - 1), SHOWN).astype(int))
    chosen = [np.flatnonzero(source.labels == label)[:8] for label in rows]
    if not names:
        chosen = list(np.linspace(0, len(source) - 1, 64).astype(int).reshape(8, 8))
    shape = dataset.read(np.zeros(1, int)).shape[1:]
    cells = np.zeros((len(chosen), 8, *shape), np.uint8)
    for row, places in enumerate(chosen):
        if len(places):
            cells[row, : len(places)] = dataset.read(places)
    picture = grid(cells.reshape(-1, *shape), 8, upscale=max(1, 32 // shape[0]))
    return captioned(picture, captions(rows, len(names), names)) if names else picture
