"""Decoded datasets on disk, from which training reads, whatever the original format.

A dataset is a folder with images.bin (uint8; count, height, width, channels), labels.bin (int32)
and dataset.json, which records the shape and the origin of the images. If images differ in size,
sizes.bin (int32; count, 2) has their heights and widths, and images.bin has the pixels of one image
after the other.
"""

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from diffusion_jax.files import json_files

IMAGES, LABELS, SIZES, DESCRIPTION = "images.bin", "labels.bin", "sizes.bin", "dataset.json"
HASHED_IMAGES = 1000
# Fields of a description that a run records.
PROVENANCE = ("name", "split", "count", "shape", "origin", "left_out", "notes", "fingerprint")

# {"image": uint8 (batch, height, width, channels), "label": int32 (batch,)}, on the host. Images
# of different sizes are held in an object array of shape (batch,).
Batch = dict[str, np.ndarray]


@dataclass(frozen=True)
class Description:
    """Metadata of a dataset.

    shape: height, width, channels; 0, 0, channels if the images differ in size. origin: source
    files and cropping, for provenance. skipped: files that could not be read and were left out.
    notes: lines on conversions that change the meaning of pixels; see `pixel_notes`.
    left_out: numbers of files of a folder that are no part of it, by the reason.
    fingerprint: SHA-256 of the content: shape, classes, crop, labels and 1,000 evenly spaced
    images. The names of the dataset and its files are not part of it.
    """

    name: str
    split: str
    shape: tuple[int, int, int]
    class_names: Sequence[str]
    origin: dict[str, str] = field(default_factory=dict)
    skipped: Sequence[str] = ()
    notes: Sequence[str] = ()
    left_out: Mapping[str, int] = field(default_factory=dict)
    count: int = 0
    fingerprint: str = ""

    @property
    def has_one_size(self) -> bool:
        """True if all images have the height and width of `shape`."""
        return self.shape[0] > 0

    def provenance(self) -> dict[str, Any]:
        """Returns the fields that a run records about its data."""
        recorded = asdict(self) | {"shape": list(self.shape), "notes": list(self.notes)}
        recorded["left_out"] = self._all_left_out()
        return {name: recorded[name] for name in PROVENANCE}

    def identity(self) -> dict[str, Any]:
        """Returns the fields that identify a decoded dataset: all but the files left out."""
        return {name: value for name, value in asdict(self).items() if name != "left_out"}

    def _all_left_out(self) -> dict[str, int]:
        """Returns the numbers of files by the reason, with those that could not be read."""
        return dict(self.left_out) | ({"unreadable": len(self.skipped)} if self.skipped else {})

    @classmethod
    def from_json(cls, values: Any) -> "Description":
        """Converts the content of a file. Raises ValueError for wrong fields or types."""
        names = {field.name for field in fields(cls)}
        if not isinstance(values, dict) or values.keys() != names:
            raise ValueError(f"a description has the fields {', '.join(sorted(names))}")
        match values:
            case {
                "shape": [_, _, _],
                "class_names": list(),
                "skipped": list(),
                "notes": list(),
                "origin": dict(),
                "left_out": dict(),
            }:
                pass
            case _:
                raise ValueError(
                    "its shape, class_names, skipped, notes, origin or left_out have a wrong type"
                )
        if not all(type(n) is int and 0 <= n < 2**40 for n in (*values["shape"], values["count"])):
            raise ValueError("its shape or count are not numbers of pixels and images")
        texts = [values["name"], values["split"], values["fingerprint"]]
        texts += [*values["class_names"], *values["skipped"], *values["notes"]]
        texts += values["origin"].values()
        if not all(isinstance(text, str) for text in texts):
            raise ValueError("its names, origin or fingerprint are not texts")
        values["shape"] = tuple(values["shape"])
        return cls(**values)

    def summary(self) -> str:
        """Returns a one-line summary for printing."""
        height, width, channels = self.shape
        size = f"{height}x{width}x{channels}" if height else f"various sizes, x{channels}"
        files = sum(self._all_left_out().values())
        without = f", {files:,} files left out" if files else ""
        return (
            f"{self.name}, {self.split}: {self.count:,} images of {size}, classes: "
            f"{len(self.class_names) or 'none'}{without}, fingerprint {self.fingerprint[:16]}"
        )

    def require_classes(self, count: int | None) -> None:
        """Raises ValueError unless there are `count` classes; None accepts any number."""
        if count is not None and count != len(self.class_names):
            raise ValueError(
                f"model.num_classes={count}, but {self.name} has {len(self.class_names)} classes"
            )


class CachedSource:
    """Memory-mapped dataset on disk; only the examples that are read are loaded.

    Raises FileNotFoundError if `folder` is not a dataset, ValueError if it is damaged.
    """

    def __init__(self, folder: Path):
        path = folder / DESCRIPTION
        if not path.is_file():
            raise FileNotFoundError(f"{folder} is not a prepared dataset: it has no {DESCRIPTION}")
        try:
            description = Description.from_json(json_files.read(path))
        except (ValueError, OSError) as error:
            raise ValueError(
                f"{folder} is damaged: {error}; delete it and prepare it again"
            ) from None
        self._open(folder, description)

    @classmethod
    def described(cls, folder: Path, description: Description) -> "CachedSource":
        """Opens a folder whose description is not written yet."""
        source = cls.__new__(cls)
        source._open(folder, description)
        return source

    def _open(self, folder: Path, description: Description) -> None:
        self.description, self.class_names = description, description.class_names
        count, (height, width, channels) = description.count, description.shape
        try:
            self._labels = _numbers(folder / LABELS, count)
            if height:
                shape = (count, height, width, channels)
                self._images = np.memmap(folder / IMAGES, np.uint8, "r", shape=shape)
            else:
                self._sizes = _numbers(folder / SIZES, 2 * count).reshape(count, 2)
                if (self._sizes < 1).any():
                    raise ValueError(f"{SIZES} has sizes below 1")
                ends = np.cumsum(self._sizes.astype(np.int64).prod(1) * channels)
                self._starts = np.concatenate([[0], ends])
                self._images = np.memmap(folder / IMAGES, np.uint8, "r", shape=(ends[-1],))
        except PermissionError:  # not damaged: deleting it would not help
            raise
        except (ValueError, OSError, IndexError, OverflowError, TypeError) as error:
            raise ValueError(
                f"{folder} is damaged: {error}; delete it and prepare it again"
            ) from None

    def __len__(self) -> int:
        return self.description.count

    @property
    def labels(self) -> Int[np.ndarray, "size"]:
        """Labels of all images."""
        return self._labels

    def image(self, index: int) -> np.ndarray:
        """Reads one image, not through the map, whose pages would count as used memory."""
        height, width, channels = self.description.shape
        if height:
            start = index * height * width * channels
        else:
            (height, width), start = self._sizes[index], int(self._starts[index])
        size = int(height) * int(width) * channels
        filename = self._images.filename
        assert filename is not None  # as of every map of a file
        pixels = np.fromfile(filename, np.uint8, size, offset=start)
        return pixels.reshape(height, width, channels)

    def read(self, indices: Int[np.ndarray, "batch"]) -> Batch:
        """Returns the examples with these indices."""
        if self.description.has_one_size:
            return {"image": self._images[indices], "label": self._labels[indices]}
        images = np.empty(len(indices), object)
        for place, index in enumerate(indices):
            pixels = self._images[self._starts[index] : self._starts[index + 1]]
            images[place] = pixels.reshape(*self._sizes[index], self.description.shape[2])
        return {"image": images, "label": self._labels[indices]}


def _numbers(path: Path, count: int) -> Int[np.ndarray, "count"]:
    """Reads the int32 numbers in a file. Raises ValueError, before reading, for another count."""
    if path.stat().st_size != 4 * count:
        raise ValueError(f"{path.name} has {path.stat().st_size:,} bytes, not {4 * count:,}")
    return np.fromfile(path, np.int32)


class ArraySource:
    """Dataset in memory. description: count and fingerprint are filled in if missing."""

    def __init__(self, description: Description, images: np.ndarray, labels: np.ndarray):
        self.class_names = description.class_names
        self.images, self.labels = images, labels.astype(np.int32)
        self.description = description
        if not description.fingerprint:
            self.description = with_fingerprint(replace(description, count=len(labels)), self)

    def __len__(self) -> int:
        return len(self.labels)

    def image(self, index: int) -> np.ndarray:
        """Returns one image."""
        return self.images[index]

    def read(self, indices: Int[np.ndarray, "batch"]) -> Batch:
        """Returns the examples with these indices."""
        return {"image": self.images[indices], "label": self.labels[indices]}


def require_split(name: str, split: str, known: Collection[str]) -> None:
    """Raises ValueError for a split that the dataset `name` does not have."""
    if split not in known:
        raise ValueError(f"{name} has no split {split!r} (data.split); it has: {', '.join(known)}")


def open_prepared(name: str, split: str, data_dir: Path, command: str) -> CachedSource:
    """Opens a decoded dataset; FileNotFoundError names the command that prepares it."""
    try:
        return CachedSource(data_dir / name / split)
    except FileNotFoundError:
        raise FileNotFoundError(
            f"The split {split} of {name} is not prepared in {data_dir}; run python -m {command}, "
            "or set data.data_dir"
        ) from None


def in_memory(source: CachedSource | ArraySource) -> ArraySource:
    """Loads a dataset into memory."""
    batch = source.read(np.arange(len(source)))
    if batch["image"].dtype == object:
        for place, image in enumerate(batch["image"]):
            batch["image"][place] = np.array(image)
    return ArraySource(source.description, batch["image"], batch["label"])


def with_fingerprint(description: Description, source: CachedSource | ArraySource) -> Description:
    """Returns the description with the fingerprint of the source's content."""
    origin = {name: value for name, value in description.origin.items() if name != "files"}
    known = {"shape": description.shape, "classes": list(description.class_names), "origin": origin}
    digest = hashlib.sha256(json.dumps(known, sort_keys=True).encode())
    digest.update(np.ascontiguousarray(source.labels, np.int32).tobytes())
    last = description.count - 1
    for index in np.unique(np.linspace(0, last, HASHED_IMAGES).astype(int)):
        image = source.image(int(index))
        digest.update(repr(image.shape).encode() + image.tobytes())
    return replace(description, fingerprint=digest.hexdigest())
