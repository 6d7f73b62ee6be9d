"""Shards of samples in a folder, so that an interrupted call can be resumed.

Until the results are complete, the folder OUT/unfinished has the sampling settings and one file
for each shard. An interruption leaves only complete shards.
"""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from diffusion_jax import parallel
from diffusion_jax.files import atomic, json_files, npz, write_access

UNFINISHED = "unfinished"
SETTINGS = "settings.json"
SHARD = 1000  # images, about
REMEDY = "delete it to sample it again"

# Maps (first image, number of images) to arrays by name, with one row for each image.
Sample = Callable[[int, int], Mapping[str, np.ndarray]]


@dataclass(frozen=True)
class Shards:
    """Shards of the images of one folder.

    Shards consist of whole batches, so that the batches do not depend on the size of a shard.

    Args:
        out: the folder of the results.
        settings: the sampling settings, which a resumed call must repeat.
        count: the number of images.
        batch: the number of images that are sampled at a time.
    """

    out: Path
    settings: Mapping[str, Any]
    count: int
    batch: int

    @classmethod
    def begin(cls, out: Path, settings: Mapping[str, Any], count: int, batch: int) -> "Shards":
        """Begins or resumes the shards of a folder.

        Raises ValueError unless the folder is free or has unfinished images of these settings.
        """
        check_free(out)
        file = out / UNFINISHED / SETTINGS
        before = json_files.read_object(file, remedy=f"delete {out}") if file.is_file() else None
        if before is not None and (changes := _changes(before, settings)):
            raise ValueError(
                f"--out={out} has unfinished images with other settings ({changes}); repeat those, "
                "choose another folder, or delete it"
            )
        return cls(out, settings, count, batch)

    @property
    def folder(self) -> Path:
        return self.out / UNFINISHED

    @property
    def size(self) -> int:
        """Number of images in a shard."""
        return max(1, SHARD // self.batch) * self.batch

    @property
    def firsts(self) -> range:
        """Index of the first image of each shard."""
        return range(0, self.count, self.size)

    def path(self, first: int) -> Path:
        return self.folder / f"{first:08d}.npz"

    def missing(self) -> list[int]:
        """Returns the first image of each missing shard, the same in all processes."""
        there = np.array([self.path(first).is_file() for first in self.firsts])
        return [first for first, found in zip(self.firsts, parallel.broadcast(there)) if not found]

    def images_in(self, first: int) -> int:
        return min(self.size, self.count - first)

    def fill(self, sample: Sample, advance: Callable[[int], None], *, write: bool) -> None:
        """Samples the missing shards, in all processes.

        Args:
            sample: samples a batch.
            advance: called with the number of images after each batch.
            write: True in exactly one process.
        """
        for first in self.missing():
            batches = []
            for start in range(first, first + self.images_in(first), self.batch):
                number = min(self.batch, self.count - start)
                batches.append(sample(start, number))
                advance(number)
            if not write:
                continue
            if not self.folder.is_dir():
                self.folder.mkdir(parents=True)
            if not (self.folder / SETTINGS).is_file():
                atomic.write_text(self.folder / SETTINGS, as_lines(self.settings))
            names = batches[0]
            shard = {name: np.concatenate([batch[name] for batch in batches]) for name in names}
            npz.write(self.path(first), shard)

    def blocks(self, name: str) -> Iterator[np.ndarray]:
        """Yields the rows of an array by shard. Raises ValueError if a shard is damaged."""
        for first in self.firsts:
            path = self.path(first)
            rows = npz.read(path, remedy=REMEDY)
            if name not in rows or len(rows[name]) != self.images_in(first):
                raise ValueError(
                    f"{path} is damaged: it does not have {self.images_in(first)} {name}; {REMEDY}"
                )
            yield rows[name]

    def finish(self) -> None:
        """Removes the shards and moves their settings beside the results."""
        for path in self.folder.iterdir():
            if path.name != SETTINGS:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        (self.folder / SETTINGS).replace(self.out / SETTINGS)
        self.folder.rmdir()


def check_free(out: Path) -> None:
    """Raises ValueError if the folder cannot be written, or has other files than shards."""
    unfinished = out / UNFINISHED
    if out.is_file() or (
        out.is_dir()
        and not (unfinished / SETTINGS).is_file()
        and any(path != unfinished or any(path.iterdir()) for path in out.iterdir())
    ):
        raise ValueError(f"--out={out} exists already; choose another folder, or delete it")
    write_access.check(out, "--out", folder=True)


def as_lines(settings: Mapping[str, Any]) -> str:
    """Returns a JSON object with one line for each entry."""
    entries = (f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in settings.items())
    return "{\n" + ",\n".join(entries) + "\n}\n"


def _changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """Returns the differences of two settings in one line."""
    new = json.loads(json.dumps(dict(new)))
    changed = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    texts = [f"{name}: {old.get(name)} -> {new.get(name)}" for name in changed]
    texts = [" ".join(text.split()) for text in texts]
    short = [text if len(text) < 80 else name for name, text in zip(changed, texts)]
    return ", ".join(short)
