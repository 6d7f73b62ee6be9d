"""Decoded datasets on disk: what training reads, whatever the images came from.

A dataset is a folder: images.bin (uint8; count, height, width, channels), labels.bin (int32) and
dataset.json, which tells the shape and where the images came from. It is written under another
name, and takes its own when it is complete.
"""

import hashlib
import json
import math
import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8

IMAGES, LABELS, DESCRIPTION, PROGRESS = "images.bin", "labels.bin", "dataset.json", "progress.json"
HASHED_IMAGES = 1000


@dataclass(frozen=True)
class Description:
    """What a dataset is. origin: where it came from and how it was cut, for provenance.

    fingerprint: SHA-256 over the description, all labels and 1,000 evenly spaced images.
    """

    name: str
    split: str
    shape: tuple[int, int, int]
    class_names: Sequence[str]
    origin: dict[str, str] = field(default_factory=dict)
    count: int = 0
    fingerprint: str = ""


class CachedSource:
    """A dataset on disk, memory-mapped: reading costs what is read."""

    def __init__(self, folder: Path):
        """Raises FileNotFoundError if there is none, ValueError if it is damaged."""
        path = folder / DESCRIPTION
        if not path.is_file():
            raise FileNotFoundError(f"No prepared dataset in {folder}: it has no {DESCRIPTION}")
        try:
            values = json.loads(path.read_text())
            self.description = Description(**values | {"shape": tuple(values["shape"])})
            shape = (self.description.count, *self.description.shape)
            self._images = np.memmap(folder / IMAGES, np.uint8, "r", shape=shape)
            self._labels = np.fromfile(folder / LABELS, np.int32)
        except (ValueError, TypeError, KeyError, OSError) as error:
            raise ValueError(f"{folder} is damaged: {error}; prepare it again") from None
        if len(self._labels) != self.description.count:
            raise ValueError(f"{folder} is damaged: {LABELS} is too short; prepare it again")
        self.class_names = self.description.class_names

    def __len__(self) -> int:
        return self.description.count

    def read(self, indices: Int[np.ndarray, "batch"]) -> dict[str, np.ndarray]:
        """As `sources.Source` has it."""
        return {"image": self._images[indices], "label": self._labels[indices]}


class CacheWriter:
    """Writes a dataset part by part; parts that were complete when it was stopped are kept.

    folder: which must not be there yet. description: without count and fingerprint.
    """

    def __init__(self, folder: Path, description: Description):
        if folder.exists():
            raise ValueError(f"{folder} is there already; delete it, or choose another --data_dir")
        self.folder, self.description = folder, description
        self.partial = folder.with_name(folder.name + ".partial")
        self.done: dict[str, int] = {}  # rows there were after each complete part
        self._resume()
        self._files = {name: (self.partial / name).open("ab") for name in (IMAGES, LABELS)}

    def _resume(self) -> None:
        """Goes back to the end of the last complete part, or to the beginning."""
        path = self.partial / PROGRESS
        if path.is_file():
            before = json.loads(path.read_text())
            if before["description"] == json.loads(json.dumps(asdict(self.description))):
                self.done = before["done"]
        row_bytes = {IMAGES: math.prod(self.description.shape), LABELS: 4}
        files = {self.partial / name: size for name, size in row_bytes.items()}
        if not self.done or any(
            not file.is_file() or file.stat().st_size < self.rows * size
            for file, size in files.items()
        ):
            self.done = {}
            shutil.rmtree(self.partial, ignore_errors=True)
            self.partial.mkdir(parents=True)
            for file in files:
                file.touch()
        for file, size in files.items():
            os.truncate(file, self.rows * size)

    def __enter__(self) -> "CacheWriter":
        return self

    def __exit__(self, *exception: Any) -> None:
        for file in self._files.values():
            file.close()

    @property
    def rows(self) -> int:
        """Images in complete parts."""
        return max(self.done.values(), default=0)

    def write(
        self,
        part: str,
        batches: Iterable[
            tuple[UInt8[np.ndarray, "batch height width channels"], Int[np.ndarray, "batch"]]
        ],
    ) -> None:
        """Adds a part, all of it or nothing. Raises ValueError for a label that is no class."""
        rows, classes = self.rows, len(self.description.class_names)
        for images, labels in batches:
            assert images.shape == (len(labels), *self.description.shape)
            if len(labels) and not (labels.min() >= 0 and labels.max() < classes):
                raise ValueError(
                    f"{part} has labels from {labels.min()} to {labels.max()}; "
                    f"0 to {classes - 1} were expected"
                )
            self._files[IMAGES].write(np.ascontiguousarray(images, np.uint8).data)
            self._files[LABELS].write(np.ascontiguousarray(labels, np.int32).data)
            rows += len(labels)
        for file in self._files.values():
            file.flush()
            os.fsync(file.fileno())
        self.done[part] = rows
        progress = {"description": asdict(self.description), "done": self.done}
        partial = self.partial / (PROGRESS + ".tmp")
        partial.write_text(json.dumps(progress))
        partial.replace(self.partial / PROGRESS)

    def finish(self) -> Description:
        """Gives the dataset its name, and returns the complete description.

        Raises ValueError if it has no images.
        """
        for file in self._files.values():
            file.close()
        if not self.rows:
            raise ValueError(f"{self.description.name} ({self.description.split}) has no images")
        known = asdict(self.description) | {"count": self.rows}
        digest = hashlib.sha256(json.dumps(known, sort_keys=True).encode())
        digest.update((self.partial / LABELS).read_bytes())
        size = math.prod(self.description.shape)
        with (self.partial / IMAGES).open("rb") as images:
            for index in np.unique(np.linspace(0, self.rows - 1, HASHED_IMAGES).astype(int)):
                images.seek(int(index) * size)
                digest.update(images.read(size))
        known["fingerprint"] = digest.hexdigest()
        (self.partial / DESCRIPTION).write_text(json.dumps(known, indent=2) + "\n")
        (self.partial / PROGRESS).unlink()
        self.partial.rename(self.folder)
        return Description(**known)
