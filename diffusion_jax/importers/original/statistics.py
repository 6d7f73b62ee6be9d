"""FID statistics of the original: mean and covariance as .npy files."""

from pathlib import Path

import numpy as np
from jaxtyping import Float

from diffusion_jax.files import npz

# Published FIDs use another network, see `evaluation.inception`.
FEATURES = "torchvision Inception v3 (IMAGENET1K_V1), pooled"


def read_statistics(
    mean_path: Path, covariance_path: Path
) -> tuple[Float[np.ndarray, "features"], Float[np.ndarray, "features features"]]:
    """Reads (mean, covariance) in float64; the original rounds the mean to float16.

    Raises ValueError if the files are damaged, have other content, or do not belong together.
    """
    mean, covariance = _read(mean_path), _read(covariance_path)
    if mean.ndim != 1 or covariance.shape != (mean.size, mean.size):
        raise ValueError(
            f"{mean_path} and {covariance_path} have the shapes {mean.shape} and "
            f"{covariance.shape}; (n,) and (n, n) are expected"
        )
    if mean.size == 0 or covariance.diagonal().min() < 0:
        raise ValueError(
            f"{covariance_path} is not a covariance: it is empty or has a negative variance"
        )
    if not np.allclose(covariance, covariance.T, rtol=1e-6, atol=1e-8):
        raise ValueError(f"{covariance_path} is not symmetric, so it is not a covariance")
    return mean, covariance


def _read(path: Path) -> np.ndarray:
    array = npz.read_array(path)
    if array.dtype.kind != "f":
        raise ValueError(f"{path} is not an .npy file of floating-point numbers")
    if not np.isfinite(array).all():
        raise ValueError(f"{path} contains non-finite values")
    return array.astype(np.float64)
