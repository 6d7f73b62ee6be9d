"""Arrays of images that notebooks display as a grid."""

import io
import math
from pathlib import Path

import numpy as np

from diffusion_jax import images

SMALLEST = 32  # pixels, of the side of a displayed image


class Gallery(np.ndarray):
    """A NumPy array of uint8 images (count, height, width, channels), displayed as a grid."""

    @classmethod
    def of(cls, array: np.ndarray) -> "Gallery":
        """Returns a view of an array."""
        return np.asarray(array).view(cls)

    def grid(self, columns: int | None = None, *, upscale: int | None = None) -> np.ndarray:
        """Returns one picture (height, width, channels) of all images, in rows of `columns`.

        columns: None for about a square. upscale: integer factor of the side; None for at least 32
        pixels.
        """
        if self.ndim != 4 or not self.size:
            raise ValueError(
                f"A grid takes images (count, height, width, channels), not {self.shape}"
            )
        columns = columns or math.ceil(math.sqrt(len(self)))
        upscale = upscale or max(1, SMALLEST // self.shape[1])
        return images.grid(np.asarray(self), columns, upscale=upscale)

    def save(
        self, path: str | Path, columns: int | None = None, *, upscale: int | None = None
    ) -> None:
        """Saves the grid as a picture, in the format of the path's suffix."""
        images.to_pil(self.grid(columns, upscale=upscale)).save(path)

    def _repr_png_(self) -> bytes | None:
        """Returns the PNG that notebooks display; None if the array does not hold images."""
        if (
            self.ndim != 4
            or self.dtype != np.uint8
            or self.shape[-1] not in (1, 3)
            or not self.size
        ):
            return None
        file = io.BytesIO()
        images.to_pil(self.grid()).save(file, "PNG")
        return file.getvalue()
