"""Features of many images, computed in shards so that an interrupted computation resumes."""

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

SHARD = 1024  # images per shard
SAVE_EVERY = 16  # shards between checkpoints of `accumulate`
FIELDS = ("count", "mean", "scatter")
REMEDY = "delete it to compute it again"


def shard_folder(parent: Path, settings: dict[str, Any]) -> Path:
    """Returns the folder for shards of images with these settings."""
    text = json.dumps(settings, sort_keys=True)
    return parent / f"features-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def gather(
    folder: Path,
    count: int,
    read: Callable[[int, int], np.ndarray],
    extractor: Extractor,
    *,
    progress: Callable[[Iterable], Iterable] = iter,
    write: bool = True,
) -> Features:
    """Returns the features of `count` images, from shards in `folder` where they exist.

    All processes compute every shard together.

    Args:
        read: (first, count) -> uint8 images.
        progress: wraps the loop over missing shards.
        write: True in exactly one process; the others save nothing and return {}.

    Raises:
        ValueError: if a shard is damaged.
    """
    _check_count(count)
    firsts = range(0, count, SHARD)
    paths = [folder / f"{first:08d}.npz" for first in firsts]
    exists = parallel.broadcast(np.array([path.is_file() for path in paths]))
    missing = [first for first, found in zip(firsts, exists) if not found]
    if write:
        folder.mkdir(parents=True, exist_ok=True)
    computed = {}
    for first in progress(missing):
        features = extractor(read(first, min(SHARD, count - first)))
        if write:
            computed[first] = features
            npz.write(folder / f"{first:08d}.npz", features)
    if not write:
        return {}
    parts = [
        computed[first] if first in computed else npz.read(path, remedy=REMEDY)
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
    read: Callable[[int, int], np.ndarray],
    extractor: Extractor,
    *,
    progress: Callable[[Iterable], Iterable] = iter,
    write: bool = True,
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Returns (mean, covariance) by the name of the features, of `count` images.

    The features themselves are not kept. The running moments are saved in `folder` every
    SAVE_EVERY shards, so the same call resumes. Other arguments are as in `gather`.
    """
    _check_count(count)
    path = folder / "moments.npz"
    total, seen = _saved_moments(path) if write and path.is_file() else ({}, 0)
    seen = int(parallel.broadcast(np.array(seen)))
    for first in progress(range(seen, count, SHARD)):
        features = extractor(read(first, min(SHARD, count - first)))
        for name in KEYS.keys() & features.keys() if write else ():
            more = Moments.of(features[name])
            total[name] = total[name] + more if name in total else more
        if write and (first // SHARD + 1) % SAVE_EVERY == 0:
            folder.mkdir(parents=True, exist_ok=True)
            values = {f"{name}/{f}": getattr(total[name], f) for name in total for f in FIELDS}
            npz.write(path, {name: np.asarray(value) for name, value in values.items()})
    return {name: (moments.mean, moments.covariance) for name, moments in total.items()}


def _saved_moments(path: Path) -> tuple[dict[str, Moments], int]:
    """Reads (moments by the name of the features, number of images in them)."""
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
        raise ValueError(f"{path} is damaged: its moments are of {sorted(counts)} images; {REMEDY}")
    return total, counts.pop()


def _check_count(count: int) -> None:
    if count < 1:
        raise ValueError(f"count={count} must be at least 1")
