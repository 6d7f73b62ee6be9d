"""All metrics of features against a reference."""

import math
from typing import Any

import numpy as np

from diffusion_jax.evaluation import moments
from diffusion_jax.evaluation.feature_metrics import METRICS
from diffusion_jax.evaluation.features import Extractor, Features
from diffusion_jax.evaluation.moments import Moments, frechet_distance, sum_of
from diffusion_jax.evaluation.references import Reference

ROWS = 8192  # features converted to float64 at a time
ENOUGH = 10  # images for each feature, below which the bias of the distance is noted


def definitions() -> dict[str, str]:
    """Returns the definition of each metric, for provenance."""
    distance = "squared Frechet distance of normal distributions, float64, unbiased covariance"
    return {"FID": distance} | {name: metric.definition for name, metric in METRICS.items()}


def versions() -> dict[str, int]:
    """Returns the version of each metric, by the names in `definitions`."""
    return {"FID": moments.VERSION} | {name: metric.version for name, metric in METRICS.items()}


def measure(
    features: Features,
    extractor: Extractor,
    reference: Reference,
    real: Features | None,
    *,
    bootstrap: int = 0,
    seed: int = 0,
) -> dict[str, Any]:
    """Computes every metric that the features and the reference allow.

    Args:
        extractor: of the features.
        real: features of the reference's images, for KID, precision and recall.
        bootstrap: resamples, with replacement, for the standard deviation of the distance; 0 for
            none.
        seed: of resamples and of the subsets of KID.
    """
    if bootstrap < 0 or bootstrap == 1:
        raise ValueError(f"bootstrap={bootstrap} must be 0, or at least 2 for a deviation")
    main = features[extractor.main]
    name = "FID" if extractor.is_fid and reference.has_known_features else "FD"
    result: dict[str, Any] = {name: _distance(main, reference, extractor.main)}
    if bootstrap:
        generator = np.random.default_rng([seed, 1])
        resampled = [
            _distance(
                main[generator.integers(len(main), size=len(main))], reference, extractor.main
            )
            for _ in range(bootstrap)
        ]
        result[f"{name}_bootstrap_std"] = float(np.std(resampled, ddof=1))
    if "spatial" in features and "spatial" in reference.statistics:
        result["s" + name] = _distance(features["spatial"], reference, "spatial")
    for metric in METRICS.values():
        if metric.of_logits:
            given = [features["logits"]] if "logits" in features else None
        else:
            given = [main, real[extractor.main]] if real is not None else None
        if given and min(map(len, given)) >= metric.fewest:
            result.update(zip(metric.names, metric.score(*given, seed)))
    return result


def notes(
    features: Features, extractor: Extractor, reference: Reference, real: Features | None
) -> list[str]:
    """Returns sentences on the metrics that `measure` leaves out, or computes from few images."""
    count, size = features[extractor.main].shape
    found, of_images = [], []
    if (features[extractor.main] == features[extractor.main][0]).all():
        found.append(f"The features of all {count:,} images are equal")
    if count <= size:
        found.append(
            f"{count} images for {size} features: the covariance is singular, and the distance is "
            "biased far upward"
        )
    elif count < ENOUGH * size:
        found.append(
            f"{count:,} images for {size:,} features: the distance is biased upward; compare it "
            "with distances of equally many images"
        )
    if "spatial" in features and "spatial" not in reference.statistics:
        found.append("sFID is missing: the reference has no mu_s and sigma_s")
    for name, metric in METRICS.items():
        if metric.of_logits and "logits" not in features:
            continue
        if not metric.of_logits and real is None:
            of_images.append(name)
            continue
        counts = {"images": count}
        if not metric.of_logits and real is not None:
            counts["real images"] = len(real[extractor.main])
        given = " and ".join(f"{number:,} {what}" for what, number in counts.items())
        if min(counts.values()) < metric.fewest:
            found.append(f"{name} missing: at least {metric.fewest:,} are needed, given {given}")
        elif min(counts.values()) < metric.meaningful:
            found.append(
                f"{name} not meaningful below {metric.meaningful:,} images, since "
                f"{metric.caution}; given {given}"
            )
    if of_images:
        found.append(f"{', '.join(of_images)} missing: the reference has no images (arr_0)")
    return found


def _distance(rows: np.ndarray, reference: Reference, name: str) -> float:
    """Returns the Frechet distance of features (images, size) to the statistics `name`."""
    parts = np.array_split(rows, math.ceil(len(rows) / ROWS))
    total = sum_of(Moments.of(part) for part in parts)
    return frechet_distance(total.mean, total.covariance, *reference.statistics[name])
