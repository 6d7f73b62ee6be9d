"""Mean and covariance of features in float64, accumulated in batches; Frechet distance."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce
from operator import add

import numpy as np
from jaxtyping import Float, Shaped

VERSION = 1  # increased with every change to the numbers computed here
NAME = "moments_version"  # key in `Reference.about`


@dataclass(frozen=True)
class Moments:
    """First and second moments of `count` vectors.

    scatter: sum of the outer products of the deviations from the mean. The sum of the moments of
    two sets is the moments of their union (Chan, Golub, LeVeque 1979).
    """

    count: int
    mean: Float[np.ndarray, "features"]
    scatter: Float[np.ndarray, "features features"]

    @classmethod
    def of(cls, features: Shaped[np.ndarray, "batch features"]) -> "Moments":
        """Computes the moments of a batch. Raises ValueError if a feature is not finite."""
        values = np.asarray(features, np.float64)
        if not np.isfinite(values).all():
            row = int(np.flatnonzero(~np.isfinite(values).all(1))[0])
            raise ValueError(f"The features of image {row} (of {len(values)}) are not all finite")
        mean = values.mean(0)
        centered = values - mean
        return cls(len(values), mean, centered.T @ centered)

    def __add__(self, other: "Moments") -> "Moments":
        count = self.count + other.count
        step = other.mean - self.mean
        mean = self.mean + step * (other.count / count)
        between = np.outer(step, step) * (self.count * other.count / count)
        return Moments(count, mean, self.scatter + other.scatter + between)

    @property
    def covariance(self) -> Float[np.ndarray, "features features"]:
        """Unbiased covariance. Raises ValueError for fewer than two vectors."""
        if self.count < 2:
            raise ValueError(f"{self.count} images have no covariance; at least 2 are needed")
        return self.scatter / (self.count - 1)


def sum_of(moments: Iterable[Moments]) -> Moments:
    """Returns the moments of the union of one or more sets."""
    return reduce(add, moments)


def frechet_distance(
    mean: Float[np.ndarray, "features"],
    covariance: Float[np.ndarray, "features features"],
    other_mean: Float[np.ndarray, "others"],
    other_covariance: Float[np.ndarray, "others others"],
) -> float:
    """Returns |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)) of two normal distributions.

    Heusel et al. (arXiv:1706.08500), eq. 6. With S = R R^T, the trace of (S1 S2)^(1/2) is the sum
    of the singular values of R1^T R2. This stays real and precise for singular covariances, which
    fewer images than features have. A distance below 0 by rounding is 0. Raises ValueError if the
    sizes differ, a number is not finite, or a covariance has a negative eigenvalue.
    """
    if mean.shape != other_mean.shape:
        raise ValueError(
            f"The statistics have {len(mean)} and {len(other_mean)} features; compute both with "
            "one extractor"
        )
    arrays = [mean, covariance, other_mean, other_covariance]
    if not all(np.isfinite(array).all() for array in arrays):
        raise ValueError("The statistics contain non-finite values")
    mean, covariance, other_mean, other_covariance = (np.asarray(a, np.float64) for a in arrays)
    trace = np.linalg.svd(_root(covariance).T @ _root(other_covariance), compute_uv=False).sum()
    apart = ((mean - other_mean) ** 2).sum()
    distance = apart + np.trace(covariance) + np.trace(other_covariance) - 2 * trace
    return max(0.0, float(distance))


def _root(covariance: np.ndarray) -> np.ndarray:
    """Returns R with R R^T = the covariance."""
    values, vectors = np.linalg.eigh(covariance)
    if values[0] < -1e-6 * max(values[-1], 1e-300):
        raise ValueError(
            f"A covariance has the eigenvalue {values[0]:.3g}; it is damaged, or not a covariance"
        )
    return vectors * np.sqrt(values.clip(0))
