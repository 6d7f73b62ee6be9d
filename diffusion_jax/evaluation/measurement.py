"""From images to numbers: features in shards that survive a stop, then all metrics in one pass."""

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from diffusion_jax import parallel
from diffusion_jax.evaluation import scores
from diffusion_jax.evaluation.features import Extractor, Features
from diffusion_jax.evaluation.moments import Moments, frechet_distance
from diffusion_jax.evaluation.references import KEYS, Reference

SHARD = 1024  # images
SAVE_EVERY = 16  # shards, where they are not kept
FIELDS = ("count", "mean", "scatter")
KID_SUBSET, KID_SUBSETS, SPLITS, NEIGHBOURS = 1000, 100, 10, 3


def shard_folder(parent: Path, settings: dict[str, Any]) -> Path:
    """Where the shards of images that were made with these settings belong."""
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
    """The features of `count` images, kept in `folder` in shards; those there are not made anew.

    images_of: uint8 images from an index on, so many. write: in one of several processes, which
    all take part in each shard; the others get nothing.
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
            _save(folder / f"{first:08d}.npz", features)
    if not write:
        return {}
    parts = [made[first] if first in made else _load(path) for first, path in zip(firsts, paths)]
    for first, path, part in zip(firsts, paths, parts):
        if any(len(rows) != min(SHARD, count - first) for rows in part.values()):
            raise ValueError(f"{path} has another number of images; delete it to make it again")
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _load(path: Path) -> Features:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except Exception as error:  # a damaged zip file raises whatever it likes
        raise ValueError(f"{path} is damaged: {error}; delete it to make it again") from None


def statistics(
    features: Features, names: Iterable[str]
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """(mean, covariance) in float64, by the name of the features."""
    found = {}
    for name in names:
        moments = sum_of(Moments.of(part) for part in _parts(features[name]))
        found[name] = moments.mean, moments.covariance
    return found


def accumulate(
    folder: Path,
    count: int,
    images_of: Callable[[int, int], np.ndarray],
    extract: Extractor,
    *,
    progress: Callable[[Iterable], Iterable] = iter,
    write: bool = True,
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """(mean, covariance) of the features of any number of images, which are not kept.

    folder: where the sums are saved now and then, so that the same call goes on. Otherwise as
    `gather`.
    """
    path = folder / "moments.npz"
    total, seen = _saved(path) if write and path.is_file() else ({}, 0)
    seen = int(parallel.from_first(np.array(seen)))
    for first in progress(range(seen, count, SHARD)):
        features = extract(images_of(first, min(SHARD, count - first)))
        for name in KEYS.keys() & features.keys() if write else ():
            more = Moments.of(features[name])
            total[name] = total[name] + more if name in total else more
        if write and (first // SHARD + 1) % SAVE_EVERY == 0:
            folder.mkdir(parents=True, exist_ok=True)
            _save(path, {f"{name}/{f}": getattr(total[name], f) for name in total for f in FIELDS})
    return {name: (moments.mean, moments.covariance) for name, moments in total.items()}


def _saved(path: Path) -> tuple[dict[str, Moments], int]:
    arrays = _load(path)
    total = {}
    for name in {name.partition("/")[0] for name in arrays}:
        count, mean, scatter = (arrays[f"{name}/{field}"] for field in FIELDS)
        total[name] = Moments(int(count), mean, scatter)
    return total, next(iter(total.values())).count


def _save(path: Path, arrays: dict[str, Any]) -> None:
    partial = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with partial.open("wb") as file:
        np.savez(file, **arrays)
    partial.rename(path)


def sum_of(moments: Iterator[Moments]) -> Moments:
    """Of all of them."""
    total = next(moments)
    for more in moments:
        total = total + more
    return total


def _parts(rows: np.ndarray) -> list[np.ndarray]:
    return np.array_split(rows, math.ceil(len(rows) / 8192))


def definitions() -> dict[str, str]:
    """How the metrics were computed, for provenance."""
    return {
        "FID": "squared Frechet distance of normal distributions, float64, unbiased covariance",
        "IS": f"{SPLITS} equal parts in order, softmax without bias",
        "KID": f"cubic kernel, {KID_SUBSETS} random subsets of {KID_SUBSET}, unbiased",
        "precision, recall": f"k = {NEIGHBOURS}, all images against the reference's own",
    }


def measure(
    features: Features,
    extract: Extractor,
    reference: Reference,
    real: Features | None,
    *,
    bootstrap: int = 0,
    seed: int = 0,
) -> dict[str, Any]:
    """All metrics that features and reference have something for.

    real: features of the reference's images, for KID, precision and recall. bootstrap: how often
    the distance is computed anew for images drawn with replacement, for its standard deviation.
    """
    main = features[extract.main]
    name = "FID" if extract.is_fid else "FD"
    ours = statistics(features, [extract.main])[extract.main]
    result: dict[str, Any] = {name: frechet_distance(*ours, *reference.statistics[extract.main])}
    if bootstrap:
        generator = np.random.default_rng([seed, 1])
        drawn = []
        for _ in range(bootstrap):
            rows = main[generator.integers(len(main), size=len(main))]
            again = statistics({extract.main: rows}, [extract.main])[extract.main]
            drawn.append(frechet_distance(*again, *reference.statistics[extract.main]))
        result[f"{name}_bootstrap_std"] = float(np.std(drawn, ddof=1))
    if "spatial" in features and "spatial" in reference.statistics:
        ours = statistics(features, ["spatial"])["spatial"]
        result["s" + name] = frechet_distance(*ours, *reference.statistics["spatial"])
    if "logits" in features and len(main) >= SPLITS:
        result["IS"], result["IS_std"] = scores.inception_score(features["logits"], splits=SPLITS)
    if real is None:
        return result
    rows = real[extract.main]
    if min(len(main), len(rows)) >= KID_SUBSET:
        result["KID"], result["KID_std"] = scores.kernel_distance(
            main, rows, subsets=KID_SUBSETS, size=KID_SUBSET, seed=seed
        )
    if min(len(main), len(rows)) > NEIGHBOURS:
        result["precision"], result["recall"] = scores.precision_recall(
            main, rows, neighbours=NEIGHBOURS
        )
    return result
