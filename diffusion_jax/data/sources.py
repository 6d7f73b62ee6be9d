"""Where images come from: everything a config may name in `config.data.name`."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int, UInt8

from diffusion_jax.data import imagenet
from diffusion_jax.data.cache import CachedSource

# {"image": uint8 (batch, height, width, channels), "label": int32 (batch,)}, on the host.
Batch = dict[str, np.ndarray]


@runtime_checkable
class Source(Protocol):
    """A finite set of labelled images that can be read in any order."""

    class_names: Sequence[str]

    def __len__(self) -> int: ...

    def read(self, indices: Int[np.ndarray, "batch"]) -> Batch:
        """The examples with these indices."""
        ...


@dataclass
class ArraySource:
    """Images that fit into memory."""

    images: UInt8[np.ndarray, "size height width channels"]
    labels: Int[np.ndarray, "size"]
    class_names: Sequence[str]

    def __len__(self) -> int:
        return len(self.images)

    def read(self, indices: Int[np.ndarray, "batch"]) -> Batch:
        return {"image": self.images[indices], "label": self.labels[indices].astype(np.int32)}


@dataclass
class TfdsSource:
    """A dataset that tfds has prepared as array_record, read without TensorFlow."""

    records: Any
    class_names: Sequence[str]

    def __len__(self) -> int:
        return len(self.records)

    def read(self, indices: Int[np.ndarray, "batch"]) -> Batch:
        examples = self.records.__getitems__(indices.tolist())
        return {
            "image": np.stack([example["image"] for example in examples]),
            "label": np.array([example["label"] for example in examples], np.int32),
        }


def make_source(name: str, *, split: str, data_dir: str) -> Source:
    """The dataset that a config names.

    name: "digits", the 1,797 handwritten digits of 8x8 pixels that scikit-learn ships (its split is
    "all"); "imagenet64", as `scripts.prepare_data` leaves it (splits train and validation); or
    "tfds:NAME", any tfds dataset with `image` and `label` prepared as array_record.
    data_dir: where the datasets are; "" is `default_data_dir`, or tfds's own default for tfds.
    Raises ValueError for another name or split, and FileNotFoundError or ValueError where the
    dataset has not been prepared.
    """
    if name == "digits":
        return _digits(split)
    if name.startswith("tfds:"):
        return _tfds(name.removeprefix("tfds:"), split, data_dir)
    if name == "imagenet64":
        return _imagenet64(split, data_dir)
    raise ValueError(f"Unknown data.name {name!r}; known: digits, imagenet64, tfds:NAME")


def default_data_dir() -> Path:
    """Where prepared datasets are if nothing else is said: ~/diffusion_jax_data."""
    return Path.home() / "diffusion_jax_data"


def _imagenet64(split: str, data_dir: str) -> CachedSource:
    if split not in imagenet.COUNTS:
        known = ", ".join(imagenet.COUNTS)
        raise ValueError(f"imagenet64 has no split {split!r} (data.split); it has: {known}")
    folder = Path(data_dir or default_data_dir()) / "imagenet64" / split
    try:
        return CachedSource(folder)
    except FileNotFoundError:
        raise FileNotFoundError(
            f"imagenet64 is not prepared in {folder.parent.parent}; run python -m "
            "scripts.prepare_data imagenet64 --source FOLDER_OF_THE_ZIPS, or set data.data_dir"
        ) from None


def _digits(split: str) -> ArraySource:
    if split != "all":
        raise ValueError(f"The digits have one split, 'all'; data.split={split!r} was given")
    from sklearn.datasets import load_digits

    digits = load_digits()
    # Grey levels 0..16, stretched to 0..255.
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)[..., None]
    return ArraySource(images, digits.target.astype(np.int32), [str(i) for i in range(10)])


def _tfds(name: str, split: str, data_dir: str) -> TfdsSource:
    import tensorflow_datasets as tfds

    # tfds suggests OpenCV for decoding and warns of folders that the check below reports.
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        try:
            builder = tfds.builder(name, data_dir=data_dir or None)
        except tfds.core.DatasetNotFoundError:
            raise ValueError(f"tfds knows no dataset {name!r} (data.name='tfds:{name}')") from None
        if not builder.is_prepared():
            raise ValueError(
                f"The tfds dataset {name!r} is not prepared in {builder.data_path}; "
                "set data.data_dir to the folder that holds it"
            )
        if split not in builder.info.splits:
            known = ", ".join(builder.info.splits)
            raise ValueError(f"{name!r} has no split {split!r} (data.split); it has: {known}")
        if builder.info.file_format != tfds.core.file_adapters.FileFormat.ARRAY_RECORD:
            raise ValueError(
                f"{builder.data_path} is in {builder.info.file_format.value} format; prepare it "
                "again with file_format='array_record', which can be read in any order"
            )
        features = dict(builder.info.features.items())
        names = getattr(features.get("label"), "names", None)
        if "image" not in features or not names:
            raise ValueError(f"{name!r} has no features `image` and `label` (with class names)")
        records = builder.as_data_source(split=split)
        records[0]  # the first decoding is what warns
    finally:
        logger.setLevel(level)
    if name.split("/")[0] == "imagenet_resized":
        names = imagenet.class_names()  # tfds has their numbers in WordNet, in the same order
    return TfdsSource(records, names)
