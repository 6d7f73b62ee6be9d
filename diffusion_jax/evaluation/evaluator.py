"""Evaluates sets of images against one reference; every result is a JSON file with provenance."""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
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
    result_cache,
)
from diffusion_jax.evaluation import (
    metrics as metrics_module,
)
from diffusion_jax.evaluation.features import Extractor, Features
from diffusion_jax.evaluation.image_sets import ImageSet
from diffusion_jax.evaluation.references import Reference
from diffusion_jax.files import atomic, lock


@dataclass(frozen=True)
class Evaluator:
    """Compares sets of images with one reference and saves the results in a folder.

    Features are saved in shards until the result is there, so that the same call resumes after an
    interruption; existing results of the same versions are returned without recomputing.
    allow_mismatch: accept a reference whose images are known to have been cropped or resized
    differently. bootstrap: see `measure.measure`. tell: gets a line on each result that is read, or
    that an older version left.
    """

    folder: Path
    extract: Extractor
    reference: Reference
    reference_file: str
    progress: Callable[[Iterable], Iterable] = iter
    allow_mismatch: bool = False
    bootstrap: int = 0
    tell: Callable[[str], Any] = provenance.tell

    @classmethod
    def of_file(cls, folder: Path, extract: Extractor, file: str, **options: Any) -> "Evaluator":
        """With the reference in `file`, see `references.load`.

        Raises FileNotFoundError or ValueError if it cannot be read, or is of other features.
        """
        if options.get("bootstrap") == 1:
            raise ValueError("--bootstrap=1 has no deviation; choose 2 or more, or 0")
        reference = references.load(file, extract.main)
        references.check_same_features(reference, extract.about | {moments.NAME: moments.VERSION})
        return cls(folder, extract, reference, file, **options)

    def __call__(self, images: ImageSet) -> dict[str, Any]:
        """{"metrics": {...}, ...}, with everything the metrics depend on.

        "note", if present, is a warning to show. Metrics are empty except in process 0. Raises
        ValueError if images and reference do not fit together, if the saved result is damaged, or
        while another process evaluates into the folder.
        """
        if not self.allow_mismatch:
            references.check_same_data(self.reference, images.data, "the images")
        known = {
            "num_samples": images.count,
            "images": images.about,
            "features": self.extract.about,
            result_cache.METRIC_VERSIONS: metrics_module.versions(),
            "training_data": images.data,
            "reference": {
                "file": self.reference_file,
                "sha256": references.digest(self.reference_file),
                **self.reference.about,
            },
            "bootstrap": self.bootstrap,
            "allow_mismatch": self.allow_mismatch,
        }
        path = result_cache.path_of(self.folder, known)
        first = jax.process_index() == 0
        if parallel.from_first(np.array(path.is_file())):
            return self._read(path) if first else {"metrics": {}, **known}
        with parallel.entered_by_first(lock.only_one(self.folder, "evaluated into")):
            return self._judged(images, known, path)

    def _read(self, path: Path) -> dict[str, Any]:
        result = result_cache.read(path)
        self.tell(f"{path} was read: {result_cache.described(result)}")
        return result

    def _judged(self, images: ImageSet, known: dict[str, Any], path: Path) -> dict[str, Any]:
        """The result, computed and written to `path`."""
        first = jax.process_index() == 0
        self._check_sizes(images.shape)
        notes = [references.unsaid_size(self.reference, images.shape)]
        if first and notes[0]:  # now, before hours are spent
            self.tell(notes[0])
        of_images = ("num_samples", "images", "features")
        settings = {key: known[key] for key in of_images}
        if first:
            for line in result_cache.older(self.folder, known):
                self.tell(line)
        features = self._features(settings, images.count, images.read)
        real = self._features_of_reference()
        parallel.wait_for_all("features")
        if not first:
            return {"metrics": {}, **known}
        metrics = metrics_module.measure(
            features, self.extract, self.reference, real, bootstrap=self.bootstrap
        )
        result = {"metrics": metrics, **known, "definitions": metrics_module.definitions()}
        result["made"] = provenance.made_here()
        size = features[self.extract.main].shape[1]
        if images.count <= size:
            notes.insert(
                0,
                f"{images.count} images for {size} features: the covariance is singular, and the "
                "distance far above that of more images",
            )
        if any(notes):
            result["note"] = ". ".join(filter(None, notes))
        atomic.write_text(path, json.dumps(result, indent=2, allow_nan=False) + "\n")
        shutil.rmtree(feature_shards.shard_folder(self.folder, settings), ignore_errors=True)
        return result

    def _check_sizes(self, shape: tuple[int, ...]) -> None:
        """Raises ValueError, before anything is drawn, if reference and features do not fit."""
        main = self.extract.main
        size = self.extract(np.zeros((1, *shape), np.uint8))[main].shape[1]
        expected = len(self.reference.statistics[main][0])
        if size != expected:
            raise ValueError(
                f"Images of {shape[0]}x{shape[1]}x{shape[2]} have {size} features, the reference "
                f"{expected}: it is of other features, or of images of another shape"
            )

    def _features(
        self, settings: dict[str, Any], count: int, read: Callable[[int, int], np.ndarray]
    ) -> Features:
        """The features of `count` images that were made with these settings."""
        first = jax.process_index() == 0
        if first:
            older_shards.say(self.folder, settings, self.tell)
        folder = feature_shards.shard_folder(self.folder, settings)
        return feature_shards.gather(
            folder, count, read, self.extract, progress=self.progress, write=first
        )

    def _features_of_reference(self) -> Features | None:
        """The features of the reference's own images, kept for later evaluations."""
        rows = self.reference.images
        if rows is None:
            return None
        pixels = hashlib.sha256(np.ascontiguousarray(rows).data).hexdigest()
        settings = {"of": pixels, **self.extract.about}
        return self._features(settings, len(rows), lambda start, count: rows[start : start + count])
