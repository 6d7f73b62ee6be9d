"""Images to edit: read from files, or checked if they are arrays."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Shaped
from PIL import Image

from diffusion_jax.data import pixel_notes
from diffusion_jax.data.crops import center_crop
from diffusion_jax.data.decoder import Decoder
from diffusion_jax.images import Uint8Images

Files = str | Path | Sequence[str | Path]
Array = Shaped[np.ndarray, "..."]


def read_images(images: Files | Array, *, side: int, channels: int) -> Uint8Images:
    """Returns uint8 images (rows, side, side, channels).

    Conversions of files that change the meaning of pixels are printed.

    Args:
        images: Files, which are rotated by their EXIF orientation, converted to sRGB by their
            color profile and from any color mode, cropped to the central square, and resized; or
            an array of the result's shape, or of a single image.

    Raises:
        ValueError: A file cannot be read, or an array has another shape or type.
    """
    shape = (side, side, channels)
    if not isinstance(images, np.ndarray):
        decode = Decoder(channels, convert=True, upright=True, srgb=True)
        squares = [np.asarray(square(decode(path), side)) for path in paths_of(images)]
        for line in pixel_notes.lines(decode.notes.take(), len(squares)):
            print(line)
        return np.stack(squares).reshape(-1, *shape)
    images = images[None] if images.shape == shape else images
    if images.dtype != np.uint8 or images.shape[1:] != shape:
        raise ValueError(
            f"Unsupported images of type {images.dtype} and shape {images.shape}; give uint8 "
            f"images of shape (count, {side}, {side}, {channels}), or image files"
        )
    return np.asarray(images)


def paths_of(files: Files) -> list[Path]:
    return [Path(file) for file in ([files] if isinstance(files, str | Path) else files)]


def square(image: Image.Image, side: int) -> Image.Image:
    return image if image.size == (side, side) else center_crop(image, side)
