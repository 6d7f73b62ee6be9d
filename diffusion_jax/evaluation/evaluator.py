"""Evaluator: metrics of image sets against one reference, saved as JSON with provenance."""

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
from diffusion_jax.diffusion import checks
from diffusion_jax.evaluation import (
    feature_shards,
    metrics,
    moments,
    provenance,
    reference_checks,
    references,
    result_cache,
)
from diffusion_jax.evaluation.features import Extractor, Features
from diffusion_jax.evaluation.image_sets import ImageSet
from diffusion_jax.evaluation.references import Reference
from diffusion_jax.files import atomic, lock


@dataclass(frozen=True)
class Evaluator:
    """Evaluator of image sets against one reference, with a folder for the results.

    Features are saved in shards until the result is written, so an interrupted call resumes. A
    saved result of the same inputs and versions is returned without recomputing.

    Args:
        folder: for results and shards.
        extractor: of the features.
        reference: statistics of real images.
        reference_file: where the reference was read from, for provenance.
        progress: wraps the loop over shards.
        allow_mismatch: accept a reference of unknown features, or known to be cropped or resized
            differently.
        bootstrap: resamples for the standard deviation of the distance; 0 for none.
        log: receives one line for a result that was read, and for a warning.
    """

    folder: Path
    extractor: Extractor
    reference: Reference
    reference_file: str
    progress: Callable[[Iterable], Iterable] = iter
    allow_mismatch: bool = False
    bootstrap: int = 0
    log: Callable[[str], Any] = provenance.log

    def __post_init__(self) -> None:
        checks.check_bools(allow_mismatch=self.allow_mismatch)
        if self.bootstrap < 0 or self.bootstrap == 1:
            raise ValueError(
                f"bootstrap={self.bootstrap} has no deviation; choose 2 or more, or 0 for none"
            )

    @classmethod
    def from_file(
        cls,
        folder: Path,
        extractor: Extractor,
        file: str,
        *,
        allow_mismatch: bool = False,
        **options: Any,
    ) -> "Evaluator":
        """Returns an evaluator against the reference in `file`, see `references.load`.

        Raises FileNotFoundError or ValueError if it cannot be read, or has other features; also if
        its features are unknown, unless `allow_mismatch` is set.
        """
        checks.check_bools(allow_mismatch=allow_mismatch)
        reference = references.load(file, extractor.main)
        about = extractor.about | {moments.NAME: moments.VERSION}
        reference_checks.check_same_features(reference, about, allow_unknown=allow_mismatch)
        return cls(folder, extractor, reference, file, allow_mismatch=allow_mismatch, **options)

    def __call__(self, images: ImageSet) -> dict[str, Any]:
        """Returns {"metrics": {...}, ...} with the inputs that the metrics depend on.

        "note", if present, is a warning. Metrics are empty except in process 0.

        Raises:
            ValueError: if images and reference do not fit together, if the saved result is
                damaged, or while another process evaluates into the folder.
        """
        if images.note and jax.process_index() == 0:
            self.log(images.note)
        if not self.allow_mismatch:
            reference_checks.check_same_data(self.reference, images.data, "the images")
        inputs = self._inputs(images)
        path = result_cache.result_path(self.folder, inputs)
        first = jax.process_index() == 0
        if parallel.broadcast(np.array(path.is_file())):
            return self._read(path) if first else {"metrics": {}, **inputs}
        with parallel.entered_on_process_0(lock.only_one(self.folder, "evaluated into")):
            return self._compute(images, inputs, path)

    def _inputs(self, images: ImageSet) -> dict[str, Any]:
        """Returns everything that a result depends on."""
        return {
            "num_samples": images.count,
            "images": images.about,
            "features": self.extractor.about,
            result_cache.METRIC_VERSIONS: metrics.versions(),
            "training_data": images.data,
            "reference": {
                "file": self.reference_file,
                "sha256": references.digest(self.reference_file),
                "features": "not recorded",
                **self.reference.about,
            },
            "bootstrap": self.bootstrap,
            "allow_mismatch": self.allow_mismatch,
        }

    def _read(self, path: Path) -> dict[str, Any]:
        result = result_cache.read(path)
        self.log(f"{path} was read: {result_cache.describe(result)}")
        return result

    def _compute(self, images: ImageSet, inputs: dict[str, Any], path: Path) -> dict[str, Any]:
        """Computes the result and writes it to `path`."""
        first = jax.process_index() == 0
        self._check_sizes(images.shape)
        warnings = reference_checks.warnings(
            self.reference, self.extractor.about, images.data, images.shape
        )
        for line in warnings if first else ():
            self.log(line)  # before hours are spent
        settings = {name: inputs[name] for name in ("num_samples", "images", "features")}
        features = self._features(settings, images.count, images.read)
        real = self._features_of_reference()
        parallel.wait_for_all("features")
        if not first:
            return {"metrics": {}, **inputs}
        values = metrics.measure(
            features, self.extractor, self.reference, real, bootstrap=self.bootstrap
        )
        result = {"metrics": values, **inputs, "definitions": metrics.definitions()}
        result["made"] = provenance.current()
        notes = metrics.notes(features, self.extractor, self.reference, real)
        if notes := list(filter(None, [*notes, images.note, *warnings])):
            result["note"] = ". ".join(notes)
        atomic.write_text(path, json.dumps(result, indent=2, allow_nan=False) + "\n")
        shutil.rmtree(feature_shards.shard_folder(self.folder, settings), ignore_errors=True)
        return result

    def _check_sizes(self, shape: tuple[int, ...]) -> None:
        """Raises ValueError, before sampling starts, if reference and features do not fit."""
        main = self.extractor.main
        size = self.extractor(np.zeros((1, *shape), np.uint8))[main].shape[1]
        expected = len(self.reference.statistics[main][0])
        if size != expected:
            raise ValueError(
                f"Images of {shape[0]}x{shape[1]}x{shape[2]} have {size} features, the reference "
                f"{expected}. Give a reference with the same features, of images of this shape"
            )

    def _features(
        self, settings: dict[str, Any], count: int, read: Callable[[int, int], np.ndarray]
    ) -> Features:
        """Computes the features of `count` images, which depend on the settings alone."""
        return feature_shards.gather(
            feature_shards.shard_folder(self.folder, settings),
            count,
            read,
            self.extractor,
            progress=self.progress,
            write=jax.process_index() == 0,
        )

    def _features_of_reference(self) -> Features | None:
        """Computes the features of the reference's images, and keeps their shards for later."""
        rows = self.reference.images
        if rows is None:
            return None
        pixels = hashlib.sha256(np.ascontiguousarray(rows).data).hexdigest()
        settings = {"of": pixels, **self.extractor.about}
        return self._features(settings, len(rows), lambda start, count: rows[start : start + count])
