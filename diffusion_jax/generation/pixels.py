"""Drawn images as pixels, if the network drew any."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from diffusion_jax import images
from diffusion_jax.generation.sampler import HostImages
from diffusion_jax.images import Uint8Images


class Origin(NamedTuple):
    """Where images come from, for an error message."""

    workdir: Path
    checkpoint: int
    guidance: float


def finite_pixels(drawn: HostImages, origin: Origin, *, truncate: bool = False) -> Uint8Images:
    """The images as uint8, see `images.to_uint8`. Raises ValueError if they are not finite."""
    if not np.isfinite(drawn).all():
        raise ValueError(
            f"The model draws values that are not finite (checkpoint {origin.checkpoint} of "
            f"{origin.workdir}, guidance {origin.guidance})"
        )
    return images.to_uint8(drawn, truncate=truncate)
