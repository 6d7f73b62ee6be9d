"""From images one by one to a dataset on disk: cut on all cores, resumable, with a progress bar."""

import hashlib
import json
import math
import os
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from diffusion_jax.data import crops
from diffusion_jax.data.cache import CachedSource, Description
from diffusion_jax.data.cache_writer import CacheWriter, check_space, locked

PART_BYTES = 2**25
LIKELY_BYTES = 80 * 107 * 3  # of an image whose size is not known beforehand


@dataclass(frozen=True)
class Cut:
    """How images become squares: one of `crops.KNOWN`.

    resolution: side of the squares. shorter_side: with random-resized-crop, to which images are
    resized beforehand, keeping their shape; the squares are cut while training. 0: 5/4 of
    resolution.
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
        """Of what is kept on disk: the shorter one, or both."""
        if self.crop == crops.RANDOM:
            return self.shorter_side or self.resolution * 5 // 4
        return self.resolution

    def origin(self) -> dict[str, str]:
        """For `cache.Description`: what else the pixels depend on."""
        more = {"shorter_side": str(self.side)} if self.crop == crops.RANDOM else {}
        return {"crop": self.crop, **more}

    def shape(self, channels: int) -> tuple[int, int, int]:
        """See `cache.Description`."""
        return (0, 0, channels) if self.crop == crops.RANDOM else (self.side, self.side, channels)


def prepared(
    cache_dir: Path,
    description: Description,
    count: int,
    load: Callable[[int], tuple[np.ndarray, int]],
    *,
    state: str,
    name_of: Callable[[int], str],
    skip_broken: bool = False,
) -> CachedSource:
    """The dataset in its folder in `cache_dir`, written first if it is not there.

    state: what else than the description tells one dataset from another, in the folder's name.
    load: the image, (height, width, channels), and the label of an index below count; called by
    several threads. It raises ValueError for an image that cannot be used, which ends everything,
    or with skip_broken leaves the image out; name_of says how to call it.
    """
    known = json.dumps([asdict(description), state, skip_broken], sort_keys=True)
    digest = hashlib.sha256(known.encode()).hexdigest()
    words = re.sub(r"[^\w.]+", "-", f"{description.name}-{description.split}").strip("-.")
    folder = cache_dir / f"{words}-{digest[:12]}"
    if not folder.exists():
        with locked(folder):
            if not folder.exists():
                _write(folder, description, count, load, name_of, skip_broken)
    return CachedSource(folder)


def _write(
    folder: Path,
    description: Description,
    count: int,
    load: Callable[[int], tuple[np.ndarray, int]],
    name_of: Callable[[int], str],
    skip_broken: bool,
) -> None:
    size = math.prod(description.shape)
    check_space(folder, count * (size or LIKELY_BYTES))

    def load_or_error(index: int) -> tuple[np.ndarray, int] | ValueError:
        try:
            return load(index)
        except ValueError as error:
            return error

    print(f"Decoding {description.name} into {folder}", flush=True)
    rows = int(np.clip(PART_BYTES // max(size, 1), 16, 1024))
    with (
        CacheWriter(folder, description) as writer,
        ThreadPoolExecutor(min(32, os.cpu_count() or 1)) as executor,
        tqdm(total=count, unit="image", desc=description.split) as bar,
    ):
        for first in range(0, count, rows):
            indices = range(first, min(first + rows, count))
            if str(first) not in writer.done:
                skipped, pairs = [], []
                for index, result in zip(indices, executor.map(load_or_error, indices)):
                    if not isinstance(result, ValueError):
                        pairs.append(result)
                    elif skip_broken:
                        skipped.append(name_of(index))
                        bar.write(f"Skipped: {result}")
                    else:
                        raise ValueError(
                            f"{result}. Nothing is lost: mend or remove it and start again, or "
                            "set data.skip_broken=True to leave such files out"
                        )
                writer.write(str(first), _stacked(pairs, bool(size)), skipped)
            bar.update(len(indices))
        done = writer.finish()
    left_out = f", {len(done.skipped)} left out" if done.skipped else ""
    print(f"{done.summary()}{left_out}", flush=True)


def _stacked(
    pairs: Sequence[tuple[np.ndarray, int]], one_size: bool
) -> Iterator[tuple[np.ndarray | list[np.ndarray], np.ndarray]]:
    if pairs:
        images, labels = zip(*pairs)
        yield (np.stack(images) if one_size else list(images)), np.array(labels, np.int32)
