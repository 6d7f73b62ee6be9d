"""A check of the whole evaluation: ADM's published samples must give the published metrics.

The samples are admnet_imagenet64.npz and the reference VIRTUAL_imagenet64_labeled.npz, both of
ADM's repository (Dhariwal and Nichol, arXiv:2105.05233).
"""

from dataclasses import dataclass
from pathlib import Path

from diffusion_jax.evaluation import references
from diffusion_jax.evaluation.evaluator import Evaluator
from diffusion_jax.evaluation.image_sets import of_files

# (value in ADM's paper and repository, tolerance)
PUBLISHED = {
    "FID": (2.07, 0.02),
    "sFID": (4.29, 0.03),
    "precision": (0.74, 0.01),
    "recall": (0.63, 0.01),
}


@dataclass(frozen=True)
class Comparison:
    """A metric beside its published value; published is None where there is none."""

    name: str
    value: float
    published: float | None
    agrees: bool


def compare(judge: Evaluator, samples: Path) -> list[Comparison]:
    """The metrics of ADM's samples beside the published ones; nothing except in process 0.

    Raises ValueError if the judge lacks ADM's reference or the published weights of InceptionV3.
    """
    if not judge.extract.is_fid:
        raise ValueError("The published metrics need the published weights of InceptionV3")
    reference = judge.reference
    if "spatial" not in reference.statistics or reference.images is None:
        raise ValueError(
            f"{judge.reference_file} has no mu_s, sigma_s and arr_0; it is not ADM's reference"
        )
    metrics = judge(of_files(samples, None, references.channels(reference)))["metrics"]
    if not metrics:
        return []
    compared = [Comparison("IS", metrics["IS"], None, True)]
    for name, (published, tolerance) in PUBLISHED.items():
        agrees = abs(metrics[name] - published) <= tolerance
        compared.append(Comparison(name, metrics[name], published, agrees))
    return compared
