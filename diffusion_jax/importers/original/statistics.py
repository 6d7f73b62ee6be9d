"""The statistics that the original saves to compute a FID: mean and covariance as .npy files."""

from pathlib import Path

import numpy as np
from jaxtyping import Float

from diffusion_jax.files import npz

# They are of torchvision's Inception v3, not of the network behind published FIDs.
FEATURES = "torchvision Inception v3 (IMAGENET1K_V1), pooled"


def read_statistics(
    mean_path: Path, covariance_path: Path
) -> tuple[Float[np.ndarray, "features"], Float[np.ndarray, "features features"]]:
    """(mean, covariance) in float64; the original rounds the mean to float16.

    Raises ValueError if the files hold anything else, or do not belong together.
    """
    mean, covariance = _read(mean_path), _read(covariance_path)
    if mean.ndim != 1 or covariance.shape != (mean.size, mean.size):
        raise ValueError(
            f"{mean_path} and {covariance_path} have the shapes {mean.shape} and "
            f"{covariance.shape}; (n,) and (n, n) were expected"
        )
    if mean.size == 0 or covariance.diagonal().min() < 0:
        raise ValueError(
            f"{covariance_path} is no covariance: a variance is negative, or none there"
        )
    if not np.allclose(covariance, covariance.T, rtol=1e-6, atol=1e-8):
        raise ValueError(f"{covariance_path} is not symmetric, hence no covariance")
    return mean, covariance


def _read(path: Path) -> np.ndarray:
    array = npz.read_array(path)
    if array.dtype.kind != "f":
        raise ValueError(f"{path} is no .npy file of floating-point numbers")
    if not np.isfinite(array).all():
        raise ValueError(f"{path} has numbers that are not finite")
    return array.astype(np.float64)
