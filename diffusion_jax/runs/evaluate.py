"""Evaluation: images of a run, or from anywhere, against a reference, with provenance."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree
from ml_collections import ConfigDict

from diffusion_jax import images, parallel
from diffusion_jax.data.decoder import Decoder
from diffusion_jax.data.folder import find_images
from diffusion_jax.evaluation import measurement
from diffusion_jax.evaluation.features import Extractor
from diffusion_jax.evaluation.references import Reference, check_same_data, digest, read_images
from diffusion_jax.runs import configuration
from diffusion_jax.runs.generator import Generator, load_params

LABELS = ("uniform", "balanced", "data", "none")


@dataclass(frozen=True)
class Images:
    """uint8 images that can be had a few at a time.

    shape: height, width, channels. about: how they were made, for provenance. data: what the model
    was trained on, as `Description.provenance` has it, as far as it is known.
    """

    count: int
    shape: tuple[int, ...]
    read: Callable[[int, int], np.ndarray]  # (first, count)
    about: dict[str, Any]
    data: dict[str, Any]


def of_run(
    workdir: Path,
    config: ConfigDict,
    *,
    count: int,
    checkpoint: int | None,
    ema: bool,
    labels: str,
    seed: int,
    truncate: bool,
    batch_size: int,
) -> Images:
    """What a run's model draws, with its config's sampling settings; image i is always the same.

    labels: one of `LABELS`. truncate: see `images.to_uint8`. Raises ValueError or FileNotFoundError
    where the run cannot give that.
    """
    batch_size = parallel.round_up(batch_size)
    generator = Generator.from_config(config, batch_size=batch_size)
    step, params = load_params(workdir, config, checkpoint=checkpoint, ema=ema)
    chosen = choose_labels(labels, count, config, seed)

    def read(first: int, number: int) -> np.ndarray:
        drawn, _ = generator(
            params,
            chosen[first : first + number],
            seed=seed,
            start=first,
        )
        if not np.isfinite(drawn).all():
            raise ValueError(
                f"The model draws values that are not finite (checkpoint {step} of {workdir}, "
                f"guidance {config.sampling.guidance})"
            )
        return images.to_uint8(drawn, truncate=truncate)

    sampling = config.sampling.to_dict()
    about = {
        "workdir": str(workdir.resolve()),
        "checkpoint": step,
        "parameters": "ema" if ema else "raw",
        "parameters_sha256": _digest(params),
        "labels": labels if config.model.num_classes else "the model has no classes",
        "quantizer": "truncate" if truncate else "round",
        "seed": seed,
        "sampling": {k: v for k, v in sampling.items() if not k.startswith("grid_")},
        "model": config.model.to_dict(),
        "schedule": config.schedule.to_dict(),
        "loss": config.loss.kind,  # which says whether the variance is the model's
    }
    trained_on = workdir / "dataset.json"
    data = json.loads(trained_on.read_text()) if trained_on.is_file() else {}
    shape = (config.data.resolution, config.data.resolution, config.model.channels)
    return Images(count, shape, read, about, data)


def _digest(params: PyTree) -> str:
    """Tells the parameters of two runs apart that were in one folder at different times."""
    total = hashlib.sha256()
    for leaf in jax.tree.leaves(jax.device_get(params)):
        total.update(np.ascontiguousarray(leaf))
    return total.hexdigest()


def choose_labels(policy: str, count: int, config: ConfigDict, seed: int) -> np.ndarray:
    """One label for each image."""
    classes = config.model.num_classes
    if not classes:
        return np.zeros(count, np.int32)
    generator = np.random.default_rng([seed, 2])
    match policy:
        case "uniform":
            return generator.integers(classes, size=count, dtype=np.int32)
        case "balanced":
            return np.arange(count, dtype=np.int32) % classes
        case "data":
            return generator.choice(configuration.open_source(config).labels, count)
        case "none":
            return np.full(count, classes, np.int32)
    raise ValueError(f"Unknown --labels {policy!r}; known: {', '.join(LABELS)}")


def of_files(path: Path, count: int | None, channels: int) -> Images:
    """The images of an npz (arr_0), or of a folder, which all have one size.

    count: as many of them, from the first on. channels: that the files of a folder are read with.
    Raises ValueError or FileNotFoundError if there are fewer, or none.
    """
    about: dict[str, Any] = {"images": str(path.resolve())}
    if path.suffix == ".npz" and path.is_file():
        rows = read_images(path)
        found, read = len(rows), lambda first, number: rows[first : first + number]
        about["sha256"] = hashlib.sha256(np.ascontiguousarray(rows)).hexdigest()
    elif path.is_dir():
        listing = find_images(path, labels="none")
        files = [path / file for file in listing.files]
        found = len(files)
        read = lambda first, number: _stacked(files[first : first + number], channels)  # noqa: E731
        about |= {"state": listing.state(range(found)), "channels": channels}
    else:
        raise FileNotFoundError(f"--images={path} is no folder and no .npz")
    if count is not None and count > found:
        raise ValueError(f"{path} has {found} images; --num_samples={count} was asked for")
    shape = read(0, 1).shape[1:]
    return Images(count or found, shape, read, about, {"shape": list(shape)})


def _stacked(files: Iterable[Path], channels: int) -> np.ndarray:
    decode = Decoder(channels)
    decoded = [np.asarray(decode(file)) for file in files]
    pixels = [image.reshape(*image.shape[:2], channels) for image in decoded]
    sizes = {image.shape: file for file, image in zip(files, pixels)}
    if len(sizes) > 1:
        (first, one), (second, other) = list(sizes.items())[:2]
        raise ValueError(
            f"The images have several sizes: {one} {first[1]}x{first[0]}, {other} "
            f"{second[1]}x{second[0]}; resize them beforehand"
        )
    return np.stack(pixels)


@dataclass(frozen=True)
class Judge:
    """Compares images with one reference, and keeps the results in a folder.

    The features of images are kept in shards until all are there, so that the same call goes on
    where it was stopped; what has a result already is not computed again. allow_mismatch: accept
    images that are known to have been cut otherwise than those of the reference.
    """

    folder: Path
    extract: Extractor
    reference: Reference
    reference_file: str
    progress: Callable[[Iterable], Iterable] = iter
    allow_mismatch: bool = False
    bootstrap: int = 0

    def __call__(self, drawn: Images) -> dict[str, Any]:
        """{"metrics": ..., and how they came about}; metrics in the first process alone."""
        if not self.allow_mismatch:
            check_same_data(self.reference, drawn.data, "the images")
        known = {
            "num_samples": drawn.count,
            "images": drawn.about,
            "features": self.extract.about,
            "training_data": drawn.data,
            "reference": {
                "file": self.reference_file,
                "sha256": digest(self.reference_file),
                **self.reference.about,
            },
            "bootstrap": self.bootstrap,
            "allow_mismatch": self.allow_mismatch,
        }
        name = hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:12]
        path = self.folder / f"result-{name}.json"
        first = jax.process_index() == 0
        if parallel.from_first(np.array(path.is_file())):
            return json.loads(path.read_text()) if first else {"metrics": {}, **known}
        self._check_sizes(drawn.shape)
        of_images = ("num_samples", "images", "features")
        shards = measurement.shard_folder(self.folder, {key: known[key] for key in of_images})
        features = measurement.gather(
            shards, drawn.count, drawn.read, self.extract, progress=self.progress, write=first
        )
        real = self._real(first)
        parallel.wait_for_all("features")
        if not first:
            return {"metrics": {}, **known}
        metrics = measurement.measure(
            features, self.extract, self.reference, real, bootstrap=self.bootstrap
        )
        result = {"metrics": metrics, **known, "definitions": measurement.definitions()}
        size = features[self.extract.main].shape[1]
        if drawn.count <= size:
            result["note"] = (
                f"{drawn.count} images for {size} features: the covariance is singular, and the "
                "distance far above that of more images"
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.name}.{os.getpid()}.tmp")
        partial.write_text(json.dumps(result, indent=2, allow_nan=False) + "\n")
        partial.rename(path)
        shutil.rmtree(shards, ignore_errors=True)
        return result

    def _check_sizes(self, shape: tuple[int, ...]) -> None:
        """Raises ValueError before anything is drawn if reference and features do not fit."""
        main = self.extract.main
        size = self.extract(np.zeros((1, *shape), np.uint8))[main].shape[1]
        there = len(self.reference.statistics[main][0])
        if size != there:
            raise ValueError(
                f"Images of {shape[0]}x{shape[1]}x{shape[2]} have {size} features, the reference "
                f"{there}: it is of other features, or of images of another shape"
            )

    def _real(self, first: bool) -> Any:
        """The features of the reference's own images, made once."""
        rows = self.reference.images
        if rows is None:
            return None
        pixels = hashlib.sha256(np.ascontiguousarray(rows)).hexdigest()
        folder = measurement.shard_folder(self.folder, {"of": pixels, **self.extract.about})
        read = lambda start, number: rows[start : start + number]  # noqa: E731
        return measurement.gather(
            folder, len(rows), read, self.extract, progress=self.progress, write=first
        )
