"""Images as a call returns them: arrays that know how to be looked at."""

import io
import math
from pathlib import Path

import numpy as np

from diffusion_jax import images

SMALLEST = 32  # pixels of the side in which an image is shown, at least


class Gallery(np.ndarray):
    """uint8 images (count, height, width, channels), an array like any other.

    A notebook shows them as a grid. `Gallery.of(array)` makes them of an array.
    """

    @classmethod
    def of(cls, array: np.ndarray) -> "Gallery":
        return np.asarray(array).view(cls)

    def grid(self, columns: int | None = None, *, upscale: int | None = None) -> np.ndarray:
        """One picture (height, width, channels) of all images, in rows of `columns`.

        columns: None for about a square. upscale: how many times as high and as wide each image
        is; None for at least 32 pixels.
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
        """Writes the grid as a picture, in the format that the name ends in."""
        images.to_pil(self.grid(columns, upscale=upscale)).save(path)

    def _repr_png_(self) -> bytes | None:
        """What a notebook shows; nothing for arrays that are no images any more."""
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
