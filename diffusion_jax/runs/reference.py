"""Makes the reference of a dataset: the statistics of its features, and some of its images."""

import shutil
from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np

from diffusion_jax import parallel
from diffusion_jax.evaluation import (
    feature_shards,
    moments,
    older_shards,
    provenance,
    references,
)
from diffusion_jax.evaluation.features import Extractor
from diffusion_jax.evaluation.references import Reference
from diffusion_jax.files import lock
from diffusion_jax.runs.datasets import Dataset


def make_reference(
    dataset: Dataset,
    extract: Extractor,
    out: str,
    *,
    count: int | None,
    keep_images: int,
    progress: Callable[[Iterable], Iterable] = iter,
    tell: Callable[[str], Any] = provenance.tell,
) -> int:
    """Writes a reference and returns the number of images in its statistics.

    out: see `references.out_paths`. count: of evenly spaced images, so that every class is
    represented; None is all. keep_images: how many images to store in the reference. tell: gets a
    line on what an older version left. The same call resumes after an interruption. Raises
    ValueError for fewer than two images, or while another process makes the same reference.
    """
    path = references.out_paths(out)[0]
    size = len(dataset.source)
    count = min(count or size, size)
    if count < 2:
        raise ValueError(f"{size} images have no covariance; at least 2 are needed")
    about = {**extract.about, moments.NAME: moments.VERSION}
    about |= {"data": dataset.provenance, "count": count}
    chosen = np.linspace(0, size - 1, count).astype(int)
    first = jax.process_index() == 0
    folder = feature_shards.shard_folder(path.parent, about)
    if first:
        older_shards.say(path.parent, about, tell)
    with parallel.entered_by_first(lock.only_one(folder, "filled")):
        statistics = feature_shards.accumulate(
            folder,
            count,
            lambda start, number: dataset.read(chosen[start : start + number]),
            extract,
            progress=progress,
            write=first,
        )
        if first:
            kept = chosen[np.unique(np.linspace(0, count - 1, min(keep_images, count)).astype(int))]
            images = dataset.read(kept) if keep_images else None
            Reference(statistics, images, about).save(out)
            shutil.rmtree(folder, ignore_errors=True)
    return count
