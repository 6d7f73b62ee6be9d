"""Reference of a dataset: statistics of its features, with some of its images."""

import shutil
from collections.abc import Callable, Iterable

import jax
import numpy as np

from diffusion_jax import parallel
from diffusion_jax.evaluation import feature_shards, moments, references
from diffusion_jax.evaluation.features import Extractor
from diffusion_jax.evaluation.references import Reference
from diffusion_jax.files import lock
from diffusion_jax.runs.datasets import Dataset


def make_reference(
    dataset: Dataset,
    extractor: Extractor,
    out: str,
    *,
    count: int | None,
    keep_images: int,
    progress: Callable[[Iterable], Iterable] = iter,
) -> int:
    """Writes a reference and returns the number of images in its statistics.

    The same call resumes after an interruption.

    Args:
        out: see `references.out_paths`.
        count: evenly spaced images, so that every class is represented; None for all.
        keep_images: images to store in the reference.

    Raises:
        ValueError: for fewer than two images, or while another process makes the same reference.
    """
    if keep_images < 0:
        raise ValueError(f"keep_images={keep_images} must be at least 0")
    path = references.out_paths(out)[0]
    size = len(dataset.source)
    count = min(count or size, size)
    if count < 2:
        raise ValueError(f"{count} images have no covariance; at least 2 are needed")
    about = {**extractor.about, moments.NAME: moments.VERSION}
    about |= {"data": dataset.provenance, "count": count}
    chosen = np.linspace(0, size - 1, count).astype(int)
    first = jax.process_index() == 0
    folder = feature_shards.shard_folder(path.parent, about)
    with parallel.entered_on_process_0(lock.only_one(folder, "filled")):
        statistics = feature_shards.accumulate(
            folder,
            count,
            lambda start, number: dataset.read(chosen[start : start + number]),
            extractor,
            progress=progress,
            write=first,
        )
        if first:
            kept = chosen[np.unique(np.linspace(0, count - 1, min(keep_images, count)).astype(int))]
            images = dataset.read(kept) if keep_images else None
            Reference(statistics, images, about).save(out)
            shutil.rmtree(folder, ignore_errors=True)
    return count
