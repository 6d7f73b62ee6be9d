"""Datasets from a config or a name, as arrays of images of one size."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import numpy as np
from jaxtyping import Int
from ml_collections import ConfigDict

from diffusion_jax.config.experiment import Experiment
from diffusion_jax.data import Source, batches, make_source
from diffusion_jax.data.cache import Batch
from diffusion_jax.data.crops import RandomResizedCrop
from diffusion_jax.data.pipeline import check_size
from diffusion_jax.generation.class_labels import captions
from diffusion_jax.images import Picture, Uint8Images, grid
from diffusion_jax.pictures.captions import captioned

GRID_CLASSES = 8  # classes in a grid of examples
# Fields of config.data for the order of the examples, not for the source.
PIPELINE_FIELDS = ("flip", "drop_last", "smallest_crop", "threads")


def open_source(config: ConfigDict) -> Source:
    """Opens the data source of a config. Raises ValueError if it does not fit the config."""
    data, model = config.data, config.model
    arguments = {name: value for name, value in data.items() if name not in PIPELINE_FIELDS}
    source = make_source(
        channels=model.channels, num_classes=model.num_classes or None, **arguments
    )
    shape = source.description.shape
    wanted = (data.resolution, data.resolution, model.channels)
    if shape not in (wanted, (0, 0, model.channels)):
        raise ValueError(
            f"{data.name} has images of (height, width, channels) = {shape}, but data.resolution "
            f"and model.channels need {wanted}"
        )
    check_size(len(source), config.batch_size, drop_last=data.drop_last)
    return source


def resolve_num_classes(config: ConfigDict) -> ConfigDict:
    """Returns the config with model.num_classes from the data, if it is None.

    Without classes, sampling.guidance becomes 0. Raises ValueError for other mistakes in the config
    before the data are opened, and errors of `open_source`.
    """
    if config.model.get("num_classes", 0) is not None:
        return config
    found = config.copy_and_resolve_references()
    found.model.num_classes = 1  # stands for any number: some blocks need classes
    Experiment.from_config(found)
    found.model.num_classes = 0
    found.model.num_classes = len(open_source(found).class_names)
    if not found.model.num_classes:
        found.sampling.guidance = 0.0
    return found


def resolve_experiment(config: ConfigDict) -> Experiment:
    """Builds the experiment of a config, with the number of classes of the data if it is None."""
    return Experiment.from_config(resolve_num_classes(config))


def mirror_note(config: ConfigDict) -> list[str]:
    """Returns a line if training mirrors images, which is wrong for some."""
    if not config.data.flip:
        return []
    return [
        "Training mirrors half of the images (data.flip=True); set data.flip=False for images that "
        "must not be mirrored, such as text or flags"
    ]


def training_batches(config: ConfigDict, source: Source, start: int = 0) -> Iterator[Batch]:
    """Returns this process's part of the batches, from the image at position `start` on."""
    data, crop = config.data, None
    if not source.description.has_one_size:
        crop = RandomResizedCrop(data.resolution, data.smallest_crop)
    return batches(
        source,
        batch_size=config.batch_size,
        seed=config.seed,
        flip=data.flip,
        drop_last=data.drop_last,
        crop=crop,
        start=start,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
        threads=data.threads,
    )


def read_images(config: ConfigDict, source: Source, indices: np.ndarray) -> np.ndarray:
    """Reads the images with these indices; random crops are the same at each call."""
    pixels = source.read(indices)["image"]
    if source.description.has_one_size:
        return pixels
    crop = RandomResizedCrop(config.data.resolution, config.data.smallest_crop)
    return crop(pixels, [np.random.default_rng([config.seed, index, 2]) for index in indices])


@dataclass(frozen=True)
class Dataset:
    """A source of images. read: indices -> images. provenance: origin and crop, for JSON."""

    source: Source
    read: Callable[[Int[np.ndarray, "batch"]], Uint8Images]
    provenance: dict[str, Any]


def from_config(config: ConfigDict) -> Dataset:
    """Returns the training data of a config; random crops are the same at each read."""
    config = resolve_experiment(config).config
    source = open_source(config)
    provenance = source.description.provenance()
    if not source.description.has_one_size:  # cropped at random, see read_images
        side = config.data.resolution
        provenance["shape"] = [side, side, config.model.channels]
        provenance["origin"] |= {"smallest_crop": config.data.smallest_crop, "seed": config.seed}
    return Dataset(source, partial(read_images, config, source), provenance)


def from_name(name: str, *, split: str | None, data_dir: str | None) -> Dataset:
    """Returns the dataset `name`, as in config.data.name, in its own size.

    split: None is the training split. Raises ValueError for folders, whose images have any size.
    """
    if name.startswith("folder:"):
        raise ValueError(
            f"A folder needs a size; give it as --config configs/folder.py "
            f"--config.data.name={name} --config.data.resolution=64, for example"
        )
    split = split or ("all" if name == "digits" else "train")
    source = make_source(name, split=split, data_dir=data_dir)

    def read(indices: Int[np.ndarray, "batch"]) -> Uint8Images:
        return source.read(indices)["image"]

    return Dataset(source, read, source.description.provenance())


def examples(dataset: Dataset) -> Picture:
    """Returns a grid of examples: a captioned row for each of some classes, or eight rows."""
    source, names = dataset.source, list(dataset.source.class_names)
    rows = np.unique(np.linspace(0, max(0, len(names) - 1), GRID_CLASSES).astype(int))
    chosen = [np.flatnonzero(source.labels == label)[:8] for label in rows]
    if not names:
        chosen = list(np.linspace(0, len(source) - 1, 64).astype(int).reshape(8, 8))
    shape = dataset.read(np.zeros(1, int)).shape[1:]
    cells = np.zeros((len(chosen), 8, *shape), np.uint8)
    for row, places in enumerate(chosen):
        if len(places):
            cells[row, : len(places)] = dataset.read(places)
    examples_grid = grid(cells.reshape(-1, *shape), 8, upscale=max(1, 32 // shape[0]))
    if not names:
        return examples_grid
    return captioned(examples_grid, captions(rows, len(names), names))
