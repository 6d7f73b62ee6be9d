"""Inception Score, KID, precision and recall, each as first published."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

ROWS = 2048  # per block of distances


def inception_score(
    logits: Float[np.ndarray, "images classes"], *, splits: int = 10
) -> tuple[float, float]:
    """Returns (mean, standard deviation) over splits of exp(E KL(p(y|x) || p(y))).

    Salimans et al. (arXiv:1606.03498), section 4. Split i is from i N / splits, rounded down, up to
    the start of the next, as in their program and torch-fidelity. Raises ValueError if there are
    fewer images than splits.
    """
    if not 1 <= splits <= len(logits):
        raise ValueError(f"{len(logits)} images cannot be split into {splits} parts")
    logits = logits.astype(np.float64)
    log_p = logits - logits.max(1, keepdims=True)
    log_p -= np.log(np.exp(log_p).sum(1, keepdims=True))
    starts = np.arange(1, splits) * len(log_p) // splits
    scores = []
    for part in np.split(log_p, starts):
        p = np.exp(part)
        divergence = (p * (part - np.log(p.mean(0, keepdims=True)))).sum(1)
        scores.append(np.exp(divergence.mean()))
    return float(np.mean(scores)), float(np.std(scores))


def kernel_distance(
    features: Float[np.ndarray, "images features"],
    real: Float[np.ndarray, "others features"],
    *,
    subsets: int = 100,
    size: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    """Returns KID: (mean, standard deviation) over random subsets of the unbiased squared MMD.

    The kernel is (x.y / d + 1)^3: Binkowski et al. (arXiv:1801.01401), section 4. Raises ValueError
    if a subset has more images than there are, or fewer than two.
    """
    if subsets < 1 or size < 2:
        raise ValueError(f"subsets={subsets} must be at least 1, and size={size} at least 2")
    if min(len(features), len(real)) < size:
        raise ValueError(
            f"KID takes subsets of {size} images; there are {len(features)} and {len(real)} real"
        )
    generator = np.random.default_rng(seed)
    estimates = []
    for _ in range(subsets):
        x, y = (
            rows[generator.choice(len(rows), size, replace=False)].astype(np.float64)
            for rows in (features, real)
        )
        xx, yy, xy = ((a @ b.T / a.shape[1] + 1) ** 3 for a, b in ((x, x), (y, y), (x, y)))
        within = (xx.sum() - np.trace(xx) + yy.sum() - np.trace(yy)) / (size * (size - 1))
        estimates.append(within - 2 * xy.mean())
    return float(np.mean(estimates)), float(np.std(estimates))


def precision_recall(
    features: Float[np.ndarray, "images features"],
    real: Float[np.ndarray, "others features"],
    *,
    neighbors: int = 3,
) -> tuple[float, float]:
    """Returns (fraction of images in the real manifold, fraction of real ones in the images').

    A ball around each image reaches to its k-th nearest neighbor. A manifold is the union of these
    balls: Kynkaanniemi et al. (arXiv:1904.06991), eq. 1 and 2. Raises ValueError unless both sets
    have more than k images.
    """
    if neighbors < 1:
        raise ValueError(f"neighbors={neighbors} must be at least 1")
    if min(len(features), len(real)) <= neighbors:
        raise ValueError(f"Precision and recall take more than {neighbors} images of each kind")
    # Centered, because distances of vectors far from 0 lose digits in float32.
    middle = real.mean(0, dtype=np.float64)
    features, real = ((rows - middle).astype(np.float32) for rows in (features, real))
    precision = _covered(features, real, _radii(real, neighbors))
    recall = _covered(real, features, _radii(features, neighbors))
    return precision, recall


def _radii(rows: np.ndarray, neighbors: int) -> np.ndarray:
    """Returns the squared distance of each row to its k-th nearest other row."""
    blocks = (np.partition(block, neighbors, axis=1) for block in _distances(rows, rows))
    return np.concatenate([block[:, neighbors] for block in blocks])


def _covered(rows: np.ndarray, others: np.ndarray, radii: np.ndarray) -> float:
    """Returns the fraction of rows in a ball around one of the others."""
    inside = [(block <= radii).any(1) for block in _distances(rows, others)]
    return float(np.concatenate(inside).mean())


def _distances(rows: np.ndarray, others: np.ndarray) -> Iterator[np.ndarray]:
    """Yields the squared distances of ROWS rows at a time to all others."""
    squares = (others**2).sum(1)
    for first in range(0, len(rows), ROWS):
        block = rows[first : first + ROWS]
        yield ((block**2).sum(1)[:, None] + squares - 2 * block @ others.T).clip(0)


@dataclass(frozen=True)
class Metric:
    """Entry of `METRICS`.

    Args:
        names: of the numbers that `score` returns.
        score: (logits, seed) -> numbers if `of_logits`, else (features, features of real images,
            seed) -> numbers.
        fewest: images that `score` needs, and as many real ones.
        meaningful: images below which a result has the note `caution`, a sentence about its bias.
        definition: for provenance.
        version: increased with every change to the numbers, so that saved results are not reused.
        of_logits: needs no real images.
    """

    names: tuple[str, ...]
    score: Callable[..., tuple[float, ...]]
    fewest: int
    definition: str
    version: int = 1
    of_logits: bool = False
    meaningful: int = 1
    caution: str = ""

    def __post_init__(self) -> None:
        if not self.names:
            raise ValueError("names is empty; a metric has at least one number")
        for name in ("fewest", "version", "meaningful"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")


# All metrics except the Frechet distances, by the name of their definition.
METRICS = {
    "IS": Metric(
        names=("IS", "IS_std"),
        score=lambda logits, seed: inception_score(logits, splits=10),
        fewest=10,
        definition="10 parts in order, from i N / 10 rounded down, softmax without bias",
        version=2,
        of_logits=True,
        meaningful=5000,
        caution="the score of each of its 10 parts is at most the number of images in the part",
    ),
    "KID": Metric(
        names=("KID", "KID_std"),
        score=lambda rows, real, seed: kernel_distance(
            rows, real, subsets=100, size=1000, seed=seed
        ),
        fewest=1000,
        definition="cubic kernel, 100 random subsets of 1000, unbiased",
        version=1,
    ),
    "precision, recall": Metric(
        names=("precision", "recall"),
        score=lambda rows, real, seed: precision_recall(rows, real, neighbors=3),
        fewest=4,
        definition="k = 3, all images against all images of the reference",
        version=1,
        meaningful=1000,
        caution="the balls around few images are large",
    ),
}
