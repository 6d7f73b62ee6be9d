"""Conversion of samples to pixels."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from diffusion_jax import images
from diffusion_jax.generation.sampler import HostImages
from diffusion_jax.images import Uint8Images


class Origin(NamedTuple):
    """Checkpoint and guidance scale of samples, for error messages."""

    workdir: Path
    checkpoint: int
    guidance: float


def finite_pixels(samples: HostImages, origin: Origin, *, truncate: bool = False) -> Uint8Images:
    """Converts samples to uint8; see `images.to_uint8`. Raises ValueError for NaN or infinity."""
    if not np.isfinite(samples).all():
        raise ValueError(
            f"The samples are not finite (checkpoint {origin.checkpoint} of "
            f"{origin.workdir}, guidance {origin.guidance})"
        )
    return images.to_uint8(samples, truncate=truncate)
