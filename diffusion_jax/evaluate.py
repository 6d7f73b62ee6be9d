"""Evaluation: images of a run, or from anywhere, against a reference, with provenance."""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from diffusion_jax import configuration, images, parallel
from diffusion_jax.data.decoder import Decoder
from diffusion_jax.data.folder import find_images
from diffusion_jax.generate import Generator, load_params
from diffusion_jax.metrics import evaluation
from diffusion_jax.metrics.features import Extractor
from diffusion_jax.metrics.references import Reference, check_same_data, digest, read_images

LABELS = ("uniform", "balanced", "data", "none")


@dataclass(frozen=True)
class Images:
    """uint8 images that can be had a few at a time.

    about: how they were made, for provenance. data: what the model was trained on, as
    `Description.provenance` has it, as far as it is known.
    """

    count: int
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
            guidance_scale=config.sampling.guidance,
            eta=config.sampling.eta,
            start=first,
        )
        return images.to_uint8(drawn, truncate=truncate)

    sampling = config.sampling.to_dict()
    about = {
        "workdir": str(workdir.resolve()),
        "checkpoint": step,
        "parameters": "ema" if ema else "raw",
        "labels": labels if config.model.num_classes else "the model has no classes",
        "quantizer": "truncate" if truncate else "round",
        "seed": seed,
        "sampling": {k: v for k, v in sampling.items() if not k.startswith("grid_")},
    }
    trained_on = workdir / "dataset.json"
    data = json.loads(trained_on.read_text()) if trained_on.is_file() else {}
    return Images(count, read, about, data)


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


def of_files(path: Path, count: int | None) -> Images:
    """The images of an npz (arr_0), or of a folder, which all have one size.

    count: as many of them, from the first on. Raises ValueError or FileNotFoundError if there are
    fewer, or none.
    """
    about = {"images": str(path.resolve())}
    if path.suffix == ".npz" and path.is_file():
        rows = read_images(path)
        found, read = len(rows), lambda first, number: rows[first : first + number]
    elif path.is_dir():
        files = [path / file for file in find_images(path, labels="none").files]
        found, read = len(files), lambda first, number: _stacked(files[first : first + number])
        about["state"] = find_images(path, labels="none").state(range(found))
    else:
        raise FileNotFoundError(f"--images={path} is no folder and no .npz")
    if count is not None and count > found:
        raise ValueError(f"{path} has {found} images; --num_samples={count} was asked for")
    return Images(count or found, read, about, {})


def _stacked(files: Iterable[Path]) -> np.ndarray:
    decode = Decoder(3)
    pixels = [np.asarray(decode(file)) for file in files]
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
        }
        name = hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:12]
        path = self.folder / f"result-{name}.json"
        if path.is_file():
            return json.loads(path.read_text())
        first = jax.process_index() == 0
        shards = evaluation.shard_folder(
            self.folder, {**known, "reference": None, "bootstrap": None}
        )
        features = evaluation.gather(
            shards, drawn.count, drawn.read, self.extract, progress=self.progress, write=first
        )
        real = self._real(first)
        if not first:
            return {"metrics": {}, **known}
        metrics = evaluation.measure(
            features, self.extract, self.reference, real, bootstrap=self.bootstrap
        )
        result = {"metrics": metrics, **known, "definitions": evaluation.definitions()}
        size = features[self.extract.main].shape[1]
        if drawn.count <= size:
            result["note"] = (
                f"{drawn.count} images for {size} features: the covariance is singular, and the "
                "distance far above that of more images"
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(path.name + ".tmp")
        partial.write_text(json.dumps(result, indent=2) + "\n")
        partial.rename(path)
        shutil.rmtree(shards)
        return result

    def _real(self, first: bool) -> Any:
        """The features of the reference's own images, made once."""
        rows = self.reference.images
        if rows is None:
            return None
        pixels = hashlib.sha256(np.ascontiguousarray(rows)).hexdigest()
        folder = evaluation.shard_folder(self.folder, {"of": pixels, **self.extract.about})
        read = lambda start, number: rows[start : start + number]  # noqa: E731
        return evaluation.gather(
            folder, len(rows), read, self.extract, progress=self.progress, write=first
        )
