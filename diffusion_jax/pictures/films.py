"""Films of the denoising: pictures of an animation, and film strips."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8

from diffusion_jax.pictures.captions import captioned_grid

Frames = UInt8[np.ndarray, "count frames height width channels"]


def animation(
    frames: Frames, captions: Sequence[str], columns: int, *, upscale: int = 1
) -> list[UInt8[np.ndarray, "rows columns channels"]]:
    """For each time a grid of all images, see `captioned_grid`."""
    return [
        captioned_grid(at_once, captions, columns, upscale=upscale)
        for at_once in frames.swapaxes(0, 1)
    ]


def strip(
    frames: Frames, captions: Sequence[str], columns: int, *, upscale: int = 1
) -> UInt8[np.ndarray, "rows columns channels"]:
    """A row for each image, with its caption to the left: its frames in the order of time.

    columns: at most this many frames are shown, evenly spaced and ending with the last.
    """
    columns = min(columns, frames.shape[1])
    chosen = np.arange(1, columns + 1) * frames.shape[1] // columns - 1
    cells = frames[:, chosen].reshape(-1, *frames.shape[2:])
    return captioned_grid(cells, [c for c in captions for _ in chosen], columns, upscale=upscale)
