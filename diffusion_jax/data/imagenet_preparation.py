"""Conversion of ImageNet 64x64 from its zip files to a dataset on disk."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from diffusion_jax.data import imagenet
from diffusion_jax.data.cache import CachedSource, Description
from diffusion_jax.data.cache_writer import CacheWriter, locked


def prepare(
    split: str, parts: Sequence[imagenet.Part], folder: Path, *, any_count: bool = False
) -> str:
    """Writes one split to a folder, unless it is there, and returns a line about it.

    An interrupted attempt is resumed. parts: from `imagenet.find_parts`. Raises ValueError if a
    part is damaged, or if the images are not as many as in the full dataset, unless any_count.
    """
    total = None if any_count else imagenet.COUNTS[split]
    with locked(folder):
        if folder.exists():
            found = CachedSource(folder).description
            if total not in (None, found.count):
                raise ValueError(
                    f"{folder} has {found.count:,} images, the full dataset {total:,}; delete it "
                    "to prepare the full dataset, or accept it with --any_count"
                )
            return f"{folder} already exists: {found.summary()}"
        return f"{folder}: {_write(split, parts, folder, total).summary()}"


def _write(
    split: str, parts: Sequence[imagenet.Part], folder: Path, total: int | None
) -> Description:
    description = Description(
        name="imagenet64",
        split=split,
        shape=imagenet.SHAPE,
        class_names=imagenet.class_names(),
        origin={"files": "image-net.org, downsampled 64x64", "crop": "as distributed"},
    )
    images = total * int(np.prod(imagenet.SHAPE)) if total else sum(part.size for part in parts)
    with (
        CacheWriter(
            folder,
            description,
            [part.identity for part in parts],
            needed=images + max(part.size for part in parts),  # pickles are unpacked
        ) as writer,
        tqdm(total=total, initial=writer.rows, unit="image", desc=split) as bar,
    ):

        def counted(part: imagenet.Part) -> Iterator[tuple[np.ndarray, np.ndarray]]:
            for images, labels in imagenet.read(part, writer.partial):
                yield images, labels
                bar.update(len(labels))

        for part in parts:
            if part.identity not in writer.done:
                writer.write(part.identity, counted(part))
        if total not in (None, writer.rows):
            raise ValueError(
                f"{split} has {writer.rows:,} images in these files, the full dataset {total:,}; "
                "download the rest, or accept them with --any_count"
            )
        return writer.finish()
