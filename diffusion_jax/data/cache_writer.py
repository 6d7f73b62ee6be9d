"""Resumable writing of datasets to disk.

A dataset is written part by part into a temporary folder, which is renamed once it is complete.
"""

import fcntl
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from diffusion_jax.data import pixel_notes
from diffusion_jax.data.cache import (
    DESCRIPTION,
    IMAGES,
    LABELS,
    SIZES,
    CachedSource,
    Description,
    with_fingerprint,
)
from diffusion_jax.data.pixel_notes import Counts
from diffusion_jax.files import atomic, json_files

PROGRESS = "progress.json"
Pairs = Iterable[tuple[np.ndarray | Sequence[np.ndarray], Int[np.ndarray, "batch"]]]


class CacheWriter:
    """Writer of a dataset, part by part; complete parts of an interrupted attempt are reused.

    Args:
        folder: final folder; raises ValueError if it exists.
        description: without count and fingerprint.
        parts: names of all parts, in order; parts are reused up to the first name that differs.
        partial: temporary folder; by default FOLDER.partial.
        reuse_skipped: reuse parts in which images were skipped.
        needed: bytes that the whole dataset takes; raises ValueError if the disk has less space.
    """

    def __init__(
        self,
        folder: Path,
        description: Description,
        parts: Sequence[str],
        partial: Path | None = None,
        *,
        reuse_skipped: bool = False,
        needed: int = 0,
    ):
        if folder.exists():
            raise ValueError(f"{folder} already exists; delete it, or choose another --data_dir")
        self.folder, self.description, self.parts = folder, description, parts
        self.partial = partial or folder.with_name(folder.name + ".partial")
        names = (IMAGES, LABELS) if description.has_one_size else (IMAGES, LABELS, SIZES)
        # For each complete part: the lengths of the files after it, the skipped images, and the
        # counts of conversions.
        self.done: dict[str, dict[str, Any]] = {}
        self._resume(names, reuse_skipped)
        written = sum((self.partial / name).stat().st_size for name in names)
        _check_space(self.partial, needed - written)
        self._files = {name: (self.partial / name).open("ab") for name in names}

    def _resume(self, names: Sequence[str], reuse_skipped: bool) -> None:
        """Truncates the files to the end of the last reusable part, or starts over."""
        progress = self._read_progress()
        if progress.get("description") == json.loads(json.dumps(self.description.identity())):
            for name, (known, lengths) in zip(self.parts, progress["done"].items()):
                if name != known or (lengths["skipped"] and not reuse_skipped):
                    break
                self.done[name] = lengths
        lengths = next(reversed(self.done.values()), dict.fromkeys(names, 0))
        files = {self.partial / name: lengths[name] for name in names}
        if not self.done or any(
            not file.is_file() or file.stat().st_size < length for file, length in files.items()
        ):
            self.done = {}
            shutil.rmtree(self.partial, ignore_errors=True)
            self.partial.mkdir(parents=True)
            files = dict.fromkeys(files, 0)
            for file in files:
                file.touch()
        for file, length in files.items():
            os.truncate(file, length)

    def _read_progress(self) -> dict[str, Any]:
        try:
            return json_files.read(self.partial / PROGRESS)
        except (OSError, ValueError):  # missing, or damaged by a power failure
            return {}

    def __enter__(self) -> "CacheWriter":
        return self

    def __exit__(self, *exception: Any) -> None:
        for file in self._files.values():
            file.close()

    @property
    def rows(self) -> int:
        """Number of images in complete parts."""
        return next(reversed(self.done.values()))[LABELS] // 4 if self.done else 0

    def write(
        self, part: str, batches: Pairs, skipped: Sequence[str] = (), counts: Counts | None = None
    ) -> None:
        """Appends the next part, completely or not at all.

        batches: images and labels. skipped: names of images that could not be read; the batches may
        append to it. counts: of conversions. Raises ValueError for labels outside the classes.
        """
        assert part == self.parts[len(self.done)], part
        classes = max(1, len(self.description.class_names))
        for images, labels in batches:
            if len(labels) and not (labels.min() >= 0 and labels.max() < classes):
                raise ValueError(
                    f"{part} has labels from {labels.min()} to {labels.max()}; "
                    f"0 to {classes - 1} were expected"
                )
            self._write_images(images)
            self._files[LABELS].write(np.ascontiguousarray(labels, np.int32).data)
        for file in self._files.values():
            file.flush()
            os.fsync(file.fileno())
        lengths = {name: file.tell() for name, file in self._files.items()}
        self.done[part] = {**lengths, "skipped": list(skipped), "conversions": counts or {}}
        progress = {"description": self.description.identity(), "done": self.done}
        atomic.write_text(self.partial / PROGRESS, json.dumps(progress))

    def _write_images(self, images: np.ndarray | Sequence[np.ndarray]) -> None:
        height, width, channels = self.description.shape
        if height:
            assert isinstance(images, np.ndarray)
            assert images.shape[1:] == (height, width, channels), images.shape
            self._files[IMAGES].write(np.ascontiguousarray(images, np.uint8).data)
            return
        for image in images:
            assert image.shape[2] == channels, image.shape
            self._files[IMAGES].write(np.ascontiguousarray(image, np.uint8).data)
            self._files[SIZES].write(np.array(image.shape[:2], np.int32).data)

    def finish(self) -> Description:
        """Renames the folder to its final name, and returns the complete description.

        Raises ValueError if there are no images.
        """
        assert list(self.done) == list(self.parts)
        for file in self._files.values():
            file.close()
        skipped = [name for part in self.done.values() for name in part["skipped"]]
        if not self.rows:
            why = ""
            if skipped:
                why = f": each of its {len(skipped)} files was skipped; "
                why += "--config.data.skip_broken=False stops at the first one and says why"
            raise ValueError(
                f"{self.description.name} ({self.description.split}) has no images{why}"
            )
        counts = pixel_notes.merged(part["conversions"] for part in self.done.values())
        notes = pixel_notes.lines(counts, self.rows)
        known = replace(self.description, count=self.rows, skipped=skipped, notes=notes)
        known = with_fingerprint(known, CachedSource.described(self.partial, known))
        text = json.dumps(asdict(known), indent=2) + "\n"
        atomic.write_text(self.partial / DESCRIPTION, text)
        self.partial.rename(self.folder)
        (self.folder / PROGRESS).unlink()
        return known


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Locks `folder`, so that one process at a time prepares it; others wait.

    The operating system releases the lock when the process ends, even if it is killed.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    path = folder.with_name(f".{folder.name}.lock")
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"Waiting for another process that prepares {folder}", flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _check_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise ValueError(
            f"{folder.parent} has {free / 1e6:,.0f} MB free, and {needed / 1e6:,.0f} MB more are "
            "needed; make room, or choose another folder (data.cache_dir, --data_dir)"
        )
