"""Features of many images, computed shard by shard; an interrupted computation resumes."""

import hashlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from diffusion_jax import parallel
from diffusion_jax.evaluation.features import Extractor, Features
from diffusion_jax.evaluation.moments import Moments
from diffusion_jax.evaluation.references import KEYS
from diffusion_jax.files import npz

SHARD = 1024  # images
SAVE_EVERY = 16  # shards, in `accumulate`
FIELDS = ("count", "mean", "scatter")
REMEDY = "delete it to make it again"


def shard_folder(parent: Path, settings: dict[str, Any]) -> Path:
    """The folder for the shards of images that were made with these settings."""
    text = json.dumps(settings, sort_keys=True)
    return parent / f"features-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def gather(
    folder: Path,
    count: int,
    images_of: Callable[[int, int], np.ndarray],
    extract: Extractor,
    *,
    progress: Callable[[Iterable], Iterable] = iter,
    write: bool = True,
) -> Features:
    """The features of `count` images. Shards are saved in `folder` and reused if already there.

    images_of: (first, count) -> uint8 images. write: True in exactly one process. All processes
    work on every shard; the others save nothing and get no features. Raises ValueError if a shard
    is damaged.
    """
    firsts = range(0, count, SHARD)
    paths = [folder / f"{first:08d}.npz" for first in firsts]
    there = parallel.from_first(np.array([path.is_file() for path in paths]))
    missing = [first for first, found in zip(firsts, there) if not found]
    if write:
        folder.mkdir(parents=True, exist_ok=True)
    made = {}
    for first in progress(missing):
        features = extract(images_of(first, min(SHARD, count - first)))
        if write:
            made[first] = features
            npz.write(folder / f"{first:08d}.npz", features)
    if not write:
        return {}
    parts = [
        made[first] if first in made else npz.read(path, remedy=REMEDY)
        for first, path in zip(firsts, paths)
    ]
    for first, path, part in zip(firsts, paths, parts):
        expected = min(SHARD, count - first)
        if any(len(rows) != expected for rows in part.values()):
            raise ValueError(f"{path} does not hold the features of {expected} images; {REMEDY}")
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def accumulate(
    folder: Path,
    count: int,
    images_of: Callable[[int, int], np.ndarray],
    extract: Extractor,
    *,
    progress: Callable[[Iterable], Iterable] = iter,
    write: bool = True,
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """(mean, covariance) of the features of `count` images, without keeping the features.

    folder: where the running moments are saved every SAVE_EVERY shards, so that the same call
    resumes. The other arguments are those of `gather`.
    """
    path = folder / "moments.npz"
    total, seen = _saved_moments(path) if write and path.is_file() else ({}, 0)
    seen = int(parallel.from_first(np.array(seen)))
    for first in progress(range(seen, count, SHARD)):
        features = extract(images_of(first, min(SHARD, count - first)))
        for name in KEYS.keys() & features.keys() if write else ():
            more = Moments.of(features[name])
            total[name] = total[name] + more if name in total else more
        if write and (first // SHARD + 1) % SAVE_EVERY == 0:
            folder.mkdir(parents=True, exist_ok=True)
            values = {f"{name}/{f}": getattr(total[name], f) for name in total for f in FIELDS}
            npz.write(path, {name: np.asarray(value) for name, value in values.items()})
    return {name: (moments.mean, moments.covariance) for name, moments in total.items()}


def _saved_moments(path: Path) -> tuple[dict[str, Moments], int]:
    """(moments by the name of the features, number of images they are of)."""
    arrays = npz.read(path, remedy=REMEDY)
    total = {}
    for name in {name.partition("/")[0] for name in arrays}:
        count, mean, scatter = (arrays.get(f"{name}/{f}", np.empty(0, np.str_)) for f in FIELDS)
        shapes = count.shape == () and mean.ndim == 1 and scatter.shape == 2 * mean.shape
        if not shapes or [a.dtype.kind for a in (count, mean, scatter)] != ["i", "f", "f"]:
            raise ValueError(f"{path} is damaged: it has no moments of {name[:50]!r}; {REMEDY}")
        total[name] = Moments(int(count), mean, scatter)
    counts = {moments.count for moments in total.values()}
    if len(counts) != 1:
        raise ValueError(f"{path} is damaged: it is of {sorted(counts)} images; {REMEDY}")
    return total, counts.pop()
