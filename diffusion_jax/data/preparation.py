"""Parallel, resumable decoding of single images into a dataset on disk, with a progress bar."""

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from diffusion_jax.data import crops
from diffusion_jax.data.cache import DESCRIPTION, CachedSource, Description
from diffusion_jax.data.cache_writer import CacheWriter, locked

PART_BYTES = 2**25


@dataclass(frozen=True)
class Cut:
    """How images are cropped to squares; crop: one of `crops.KNOWN`.

    resolution: side of the squares. shorter_side: only for random-resized-crop, which crops during
    training: images are stored with their aspect ratio, and with a shorter side of this length; 0
    is 5/4 of resolution.
    """

    crop: str
    resolution: int
    shorter_side: int = 0

    def __call__(self, image: Image.Image) -> Image.Image:
        if self.crop == crops.RANDOM:
            return crops.resize_shorter(image, self.side)
        return crops.CROPS[self.crop](image, self.resolution)

    @property
    def side(self) -> int:
        """The side of the images on disk, or the shorter one for random-resized-crop."""
        if self.crop == crops.RANDOM:
            return self.shorter_side or self.resolution * 5 // 4
        return self.resolution

    def origin(self) -> dict[str, str]:
        """The settings that the stored pixels depend on, for `cache.Description`."""
        more = {"shorter_side": str(self.side)} if self.crop == crops.RANDOM else {}
        return {"crop": self.crop, **more}

    def image_bytes(self, channels: int) -> int:
        """The bytes of one image on disk; for images of different shapes, of one with 4:3."""
        usual = self.side * 4 // 3 if self.crop == crops.RANDOM else self.side
        return self.side * usual * channels

    def shape(self, channels: int) -> tuple[int, int, int]:
        """The shape as in `cache.Description`."""
        return (0, 0, channels) if self.crop == crops.RANDOM else (self.side, self.side, channels)


def prepared(
    cache_dir: Path,
    description: Description,
    count: int,
    load: Callable[[int], tuple[np.ndarray, int]],
    *,
    image_bytes: int,
    state_of: Callable[[range], str],
    name_of: Callable[[int], str],
    skip_broken: bool = False,
) -> CachedSource:
    """Opens the dataset in `cache_dir`, and writes it first if it does not exist yet.

    load: returns the image, (height, width, channels), and the label for an index below count;
    called from several threads. It raises ValueError for an unusable image, which aborts the
    preparation or, with skip_broken, leaves the image out and records its name, name_of(index).
    image_bytes: the (typical) size of an image on disk. state_of: a digest of the images in a range
    of indices; ranges whose digest has changed are decoded again.
    """
    rows = int(np.clip(PART_BYTES // image_bytes, 16, 1024))
    parts = [range(first, min(first + rows, count)) for first in range(0, count, rows)]
    names = {f"{part.start} {state_of(part)}": part for part in parts}
    words = re.sub(r"[^\w.]+", "-", f"{description.name}-{description.split}").strip("-.")
    # Independent of the files' state, so that an incomplete dataset is found after files changed.
    partial = cache_dir / f"{words}-{_digest(asdict(description))}.partial"
    folder = cache_dir / f"{words}-{_digest([asdict(description), list(names), skip_broken])}"
    if not folder.exists():
        with locked(partial):
            if not folder.exists():
                print(f"Decoding {description.name} into {folder}", flush=True)
                with CacheWriter(
                    folder,
                    description,
                    list(names),
                    partial,
                    whole=not skip_broken,
                    needed=count * image_bytes,
                ) as writer:
                    _write(writer, names, load, name_of, skip_broken)
                    done = writer.finish()
                if done.skipped:
                    print(f"Left out: {len(done.skipped)} of {count}; see {folder / DESCRIPTION}")
    return CachedSource(folder)


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]


def _write(
    writer: CacheWriter,
    parts: dict[str, range],
    load: Callable[[int], tuple[np.ndarray, int]],
    name_of: Callable[[int], str],
    skip_broken: bool,
) -> None:
    one_size = bool(writer.description.shape[0])

    def load_or_error(index: int) -> tuple[np.ndarray, int] | ValueError:
        try:
            return load(index)
        except ValueError as error:
            return error

    with (
        ThreadPoolExecutor(min(32, os.cpu_count() or 1)) as executor,
        tqdm(total=sum(map(len, parts.values())), unit="image") as bar,
    ):
        for name, part in parts.items():
            if name not in writer.done:
                skipped, pairs = [], []
                for index, result in zip(part, executor.map(load_or_error, part)):
                    if not isinstance(result, ValueError):
                        pairs.append(result)
                    elif skip_broken:
                        skipped.append(name_of(index))
                        bar.write(f"Skipped: {result}")
                    else:
                        raise ValueError(
                            f"{result}. Decoded images are kept: repair or remove the file and "
                            "start again, or set data.skip_broken=True to leave such files out"
                        )
                writer.write(name, _stacked(pairs, one_size), skipped)
            bar.update(len(part))


def _stacked(
    pairs: Sequence[tuple[np.ndarray, int]], one_size: bool
) -> Iterator[tuple[np.ndarray | list[np.ndarray], np.ndarray]]:
    if pairs:
        images, labels = zip(*pairs)
        yield (np.stack(images) if one_size else list(images)), np.array(labels, np.int32)
