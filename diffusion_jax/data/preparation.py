"""Parallel, resumable decoding of images into a dataset on disk, with a progress bar."""

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from diffusion_jax.data.cache import DESCRIPTION, CachedSource, Description
from diffusion_jax.data.cache_writer import CacheWriter, locked
from diffusion_jax.data.pixel_notes import PixelNotes

PART_BYTES = 2**25


def open_or_decode(
    cache_dir: Path,
    description: Description,
    count: int,
    load: Callable[[int], tuple[np.ndarray, int]],
    *,
    image_bytes: int,
    state_of: Callable[[range], str],
    name_of: Callable[[int], str],
    skip_broken: bool = False,
    notes: PixelNotes | None = None,
) -> CachedSource:
    """Opens the dataset in `cache_dir`; decodes it first if it is not there yet.

    Args:
        load: returns the image, (height, width, channels), and the label for an index below count;
            called from several threads. Raises ValueError for an unusable image.
        image_bytes: typical size of an image on disk.
        state_of: returns a digest of the images in a range of indices; ranges whose digest has
            changed are decoded again.
        name_of: returns the name of the image with an index.
        skip_broken: leave out unusable images, and record their names; otherwise the first one
            raises ValueError.
        notes: counts of conversions, which `load` adds to.
    """
    rows = int(np.clip(PART_BYTES // image_bytes, 16, 1024))
    parts = [range(first, min(first + rows, count)) for first in range(0, count, rows)]
    names = {f"{part.start} {state_of(part)}": part for part in parts}
    words = re.sub(r"[^\w.]+", "-", f"{description.name}-{description.split}").strip("-.")
    # Independent of the files' state, so that an incomplete dataset is found after files changed.
    partial = cache_dir / f"{words}-{_digest(description.identity())}.partial"
    folder = cache_dir / f"{words}-{_digest([description.identity(), list(names), skip_broken])}"
    if not folder.exists():
        with locked(partial):
            if not folder.exists():
                print(f"Decoding {description.name} into {folder}", flush=True)
                with CacheWriter(
                    folder,
                    description,
                    list(names),
                    partial,
                    reuse_skipped=skip_broken,
                    needed=count * image_bytes,
                ) as writer:
                    _write(writer, names, load, name_of, skip_broken, notes or PixelNotes())
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
    notes: PixelNotes,
) -> None:
    one_size = writer.description.has_one_size

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
                writer.write(name, _stacked(pairs, one_size), skipped, notes.take())
            bar.update(len(part))


def _stacked(
    pairs: Sequence[tuple[np.ndarray, int]], one_size: bool
) -> Iterator[tuple[np.ndarray | list[np.ndarray], np.ndarray]]:
    if pairs:
        images, labels = zip(*pairs)
        yield (np.stack(images) if one_size else list(images)), np.array(labels, np.int32)
