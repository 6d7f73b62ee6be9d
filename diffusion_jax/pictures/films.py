"""Films of the denoising as frames of an animation or as a film strip."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8

from diffusion_jax.pictures.captions import captioned_grid

Frames = UInt8[np.ndarray, "count frames height width channels"]


def animation(
    frames: Frames, captions: Sequence[str], columns: int, *, upscale: int = 1
) -> list[UInt8[np.ndarray, "rows columns channels"]]:
    """Returns a grid of all images for each time, see `captioned_grid`."""
    return [
        captioned_grid(at_once, captions, columns, upscale=upscale)
        for at_once in frames.swapaxes(0, 1)
    ]


def strip(
    frames: Frames, captions: Sequence[str], columns: int, *, upscale: int = 1
) -> UInt8[np.ndarray, "rows columns channels"]:
    """Returns a row of frames for each image, with its caption to the left.

    columns: the number of frames, at most; they are evenly spaced and end with the last one.
    """
    columns = min(columns, frames.shape[1])
    chosen = np.arange(1, columns + 1) * frames.shape[1] // columns - 1
    cells = frames[:, chosen].reshape(-1, *frames.shape[2:])
    return captioned_grid(cells, [c for c in captions for _ in chosen], columns, upscale=upscale)
