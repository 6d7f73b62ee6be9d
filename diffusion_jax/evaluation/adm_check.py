"""End-to-end check of the evaluation with ADM's published samples and metrics.

The samples are admnet_imagenet64.npz and the reference is VIRTUAL_imagenet64_labeled.npz, both from
ADM's repository (Dhariwal and Nichol, arXiv:2105.05233). The metrics are the row "ADM" of that
paper. The row "ADM (dropout)", with an FID of 2.07, is of the model 64x64_diffusion.pt, whose
samples are not published.
"""

from dataclasses import dataclass
from pathlib import Path

from diffusion_jax.evaluation.evaluator import Evaluator
from diffusion_jax.evaluation.image_sets import from_files

SAMPLES = "admnet_imagenet64.npz"
REFERENCE = "VIRTUAL_imagenet64_labeled.npz"
COUNT, SHAPE = 50_000, (64, 64, 3)
# Of SAMPLES against REFERENCE: (published value, tolerance). ADM's program gives an FID of 2.6142
# (guided-diffusion, issue 75).
PUBLISHED = {
    "FID": (2.61, 0.02),
    "sFID": (3.77, 0.03),
    "precision": (0.73, 0.01),
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

    Raises ValueError unless the evaluator has ADM's reference and the published InceptionV3, and
    the samples are as many and as large as ADM's.
    """
    if not evaluator.extractor.is_fid:
        raise ValueError(
            "The published metrics need the published weights of InceptionV3; leave out --weights"
        )
    reference = evaluator.reference
    if reference.about.get("published") != REFERENCE:
        raise ValueError(
            f"{evaluator.reference_file} is not ADM's reference by its name and the shapes of its "
            f"arrays; give {REFERENCE} of ADM's repository"
        )
    images = from_files(samples, None, reference.channels)
    if (images.count, images.shape) != (COUNT, SHAPE):
        raise ValueError(
            f"{samples} has {images.count:,} images of shape {images.shape}; the published metrics "
            f"are of {SAMPLES}, which has {COUNT:,} of shape {SHAPE}"
        )
    metrics = evaluator(images)["metrics"]
    return [compare_metric(name, metrics[name]) for name in ("IS", *PUBLISHED) if metrics]


def compare_metric(name: str, value: float) -> Comparison:
    """Compares the value of one metric with the published one."""
    published, tolerance = PUBLISHED.get(name, (None, 0.0))
    agrees = published is None or abs(value - published) <= tolerance
    return Comparison(name, value, published, agrees)


def report(compared: list[Comparison]) -> tuple[list[str], int]:
    """Returns (lines to print, exit code): 0 if all metrics are as published, else 1."""
    if not compared:  # in all processes but the first
        return [], 0
    lines = [f"Published: {SAMPLES} against {REFERENCE}, row ADM of the paper"]
    for metric in compared:
        verdict = "as published" if metric.agrees else "NOT as published"
        expected = "" if metric.published is None else f", {verdict} ({metric.published})"
        lines.append(f"{metric.name:>10}: {metric.value:.4f}{expected}")
    return lines, 0 if all(metric.agrees for metric in compared) else 1
