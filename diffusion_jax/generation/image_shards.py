"""Images drawn shard by shard into a folder; the same call goes on after an interruption.

Until all is drawn and written, everything is in OUT/unfinished: the settings that the images are
drawn with, and a file for each shard. A stop at any time leaves whole shards.
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
REMEDY = "delete it to draw it again"

# From (first, number) to arrays by name, each with a row for each image.
Draw = Callable[[int, int], Mapping[str, np.ndarray]]


@dataclass(frozen=True)
class Shards:
    """The images of one folder. batch: how many are drawn at a time, the same for each shard.

    Image i is in the same batch whatever the size of a shard, and comes out the same.
    """

    out: Path
    settings: Mapping[str, Any]
    count: int
    batch: int

    @classmethod
    def begin(cls, out: Path, settings: Mapping[str, Any], count: int, batch: int) -> "Shards":
        """Those in `out`, which must be free, or hold unfinished images with these settings.

        Raises ValueError otherwise.
        """
        check_free(out)
        file = out / UNFINISHED / SETTINGS
        before = json_files.read_object(file, remedy=f"delete {out}") if file.is_file() else None
        if before is not None and (changes := _changes(before, settings)):
            raise ValueError(
                f"--out={out} holds unfinished images with other settings ({changes}); give the "
                "same, choose another folder, or delete it"
            )
        return cls(out, settings, count, batch)

    @property
    def folder(self) -> Path:
        return self.out / UNFINISHED

    @property
    def size(self) -> int:
        """Images in a shard: whole batches."""
        return max(1, SHARD // self.batch) * self.batch

    @property
    def firsts(self) -> range:
        """The first image of each shard."""
        return range(0, self.count, self.size)

    def path(self, first: int) -> Path:
        return self.folder / f"{first:08d}.npz"

    def missing(self) -> list[int]:
        """The first images of the shards that are not there yet; the same in all processes."""
        there = np.array([self.path(first).is_file() for first in self.firsts])
        return [first for first, found in zip(self.firsts, parallel.from_first(there)) if not found]

    def images_in(self, first: int) -> int:
        return min(self.size, self.count - first)

    def fill(self, draw: Draw, advance: Callable[[int], None], *, write: bool) -> None:
        """Draws what is missing. All processes draw; write: True in exactly one of them.

        advance: called with the number of images after each batch.
        """
        for first in self.missing():
            batches = []
            for start in range(first, first + self.images_in(first), self.batch):
                number = min(self.batch, self.count - start)
                batches.append(draw(start, number))
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
        """An array's rows, shard by shard. Raises ValueError if a shard is damaged."""
        for first in self.firsts:
            path = self.path(first)
            rows = npz.read(path, remedy=REMEDY)
            if name not in rows or len(rows[name]) != self.images_in(first):
                raise ValueError(
                    f"{path} does not hold {self.images_in(first)} {name} as it should; {REMEDY}"
                )
            yield rows[name]

    def finish(self) -> None:
        """Removes the shards and leaves their settings beside the results."""
        for path in self.folder.iterdir():
            if path.name != SETTINGS:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        (self.folder / SETTINGS).replace(self.out / SETTINGS)
        self.folder.rmdir()


def check_free(out: Path) -> None:
    """Raises ValueError if `out` cannot be written, or has something else than shards in it."""
    unfinished = out / UNFINISHED
    if out.is_file() or (
        out.is_dir()
        and not (unfinished / SETTINGS).is_file()
        and any(path != unfinished or any(path.iterdir()) for path in out.iterdir())
    ):
        raise ValueError(f"--out={out} is there already; choose another folder, or delete it")
    write_access.check(out, "--out", folder=True)


def as_lines(settings: Mapping[str, Any]) -> str:
    """A JSON object with a line for each of its entries, however long."""
    entries = (f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in settings.items())
    return "{\n" + ",\n".join(entries) + "\n}\n"


def _changes(old: dict[str, Any], new: Mapping[str, Any]) -> str:
    new = json.loads(json.dumps(dict(new)))
    changed = [name for name in old | new if old.get(name) != new.get(name)]
    texts = [f"{name}: {old.get(name)} -> {new.get(name)}" for name in changed]
    texts = [" ".join(text.split()) for text in texts]
    short = [text if len(text) < 80 else name for name, text in zip(changed, texts)]
    return ", ".join(short)
