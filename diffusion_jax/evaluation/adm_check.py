"""End-to-end check of the evaluation with ADM's published samples and metrics.

The samples are admnet_imagenet64.npz and the reference is VIRTUAL_imagenet64_labeled.npz, both from
ADM's repository (Dhariwal and Nichol, arXiv:2105.05233).
"""

from dataclasses import dataclass
from pathlib import Path

from diffusion_jax.evaluation.evaluator import Evaluator
from diffusion_jax.evaluation.image_sets import from_files

# (value in ADM's paper and repository, tolerance)
PUBLISHED = {
    "FID": (2.07, 0.02),
    "sFID": (4.29, 0.03),
    "precision": (0.74, 0.01),
    "recall": (0.63, 0.01),
}


@dataclass(frozen=True)
class Comparison:
    """Metric with its published value, None if not published."""

    name: str
    value: float
    published: float | None
    agrees: bool


def compare(evaluator: Evaluator, samples: Path) -> list[Comparison]:
    """Compares the metrics of ADM's samples with the published ones; [] except in process 0.

    Raises ValueError unless the evaluator has ADM's reference and the published InceptionV3.
    """
    if not evaluator.extractor.is_fid:
        raise ValueError(
            "The published metrics need the published weights of InceptionV3; leave out --weights"
        )
    reference = evaluator.reference
    if "spatial" not in reference.statistics or reference.images is None:
        raise ValueError(
            f"{evaluator.reference_file} has no mu_s, sigma_s and arr_0, so it is not ADM's "
            "reference; give VIRTUAL_imagenet64_labeled.npz"
        )
    metrics = evaluator(from_files(samples, None, reference.channels))["metrics"]
    if not metrics:
        return []
    compared = [Comparison("IS", metrics["IS"], None, True)]
    for name, (published, tolerance) in PUBLISHED.items():
        agrees = abs(metrics[name] - published) <= tolerance
        compared.append(Comparison(name, metrics[name], published, agrees))
    return compared
