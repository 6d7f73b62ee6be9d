"""Conversion between [-1, 1] and uint8, image grids, and PNG, GIF and WebP files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8
from PIL import Image

from diffusion_jax.diffusion.types import Images

Uint8Images = UInt8[np.ndarray, "batch height width channels"]
Picture = UInt8[np.ndarray, "height width channels"]

LAST_FRAME = 2000  # milliseconds of the last frame of an animation


def normalize(images: UInt8[Array, "batch height width channels"]) -> Images:
    """Maps 0 ... 255 to [-1, 1]."""
    return images.astype(jnp.float32) / 127.5 - 1


class NotFinite(ValueError):
    """Images that hold NaN or infinity."""


def to_uint8(
    images: Float[np.ndarray, "*batch"], *, truncate: bool = False
) -> UInt8[np.ndarray, "*batch"]:
    """Maps [-1, 1] to 0 ... 255, rounded to the nearest level; values outside are clipped.

    truncate: True to round down, as ADM and gmongaras's program do; half a level darker on average.

    Raises NotFinite for NaN and infinity.
    """
    if not np.isfinite(images).all():
        raise NotFinite("The images hold NaN or infinity")
    levels = (np.clip(images, -1, 1) + 1) * 127.5
    return (levels if truncate else np.floor(levels + 0.5)).astype(np.uint8)


def grid(
    images: Uint8Images, columns: int, *, padding: int = 1, upscale: int = 1
) -> UInt8[np.ndarray, "rows columns channels"]:
    """Arranges images in rows of `columns`; each pixel becomes upscale x upscale pixels.

    padding: width in pixels of the black lines between and around the images. An incomplete last
    row is filled with black.
    """
    images = images.repeat(upscale, axis=1).repeat(upscale, axis=2)
    count, height, width, channels = images.shape
    rows = -(-count // columns)
    cells = np.zeros((rows * columns, height + padding, width + padding, channels), np.uint8)
    cells[:count, padding:, padding:] = images
    cells = cells.reshape(rows, columns, *cells.shape[1:]).transpose(0, 2, 1, 3, 4)
    picture = cells.reshape(rows * (height + padding), columns * (width + padding), channels)
    return np.pad(picture, ((0, padding), (0, padding), (0, 0)))


def to_pil(picture: Picture) -> Image.Image:
    """Converts to a Pillow image: grayscale for one channel, RGB for three."""
    return Image.fromarray(picture[..., 0] if picture.shape[-1] == 1 else picture)


def save_png(path: Path, picture: Picture) -> None:
    to_pil(picture).save(path, format="PNG")


def save_gif(path: Path, pictures: Sequence[Picture], *, milliseconds: int = 60) -> None:
    """Saves a looping animation that shows its last frame for two seconds.

    A GIF has 256 colors, so the colors of RGB pictures are approximate.
    """
    _save_animation(path, pictures, milliseconds, format="GIF")


def save_webp(path: Path, pictures: Sequence[Picture], *, milliseconds: int = 60) -> None:
    """Saves a looping animation as `save_gif` does, with exact colors."""
    _save_animation(path, pictures, milliseconds, format="WEBP", lossless=True)


def _save_animation(
    path: Path, pictures: Sequence[Picture], milliseconds: int, **options: Any
) -> None:
    frames = [to_pil(picture) for picture in pictures]
    durations = [milliseconds] * (len(frames) - 1) + [LAST_FRAME]
    frames[0].save(
        path, save_all=True, append_images=frames[1:], duration=durations, loop=0, **options
    )
