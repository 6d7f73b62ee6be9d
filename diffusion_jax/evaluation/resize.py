"""Resizing to the input of InceptionV3, 299x299 pixels in [-1, 1], as common FID programs do it.

The choice changes a FID by more than many papers improve it: at 64 pixels, the two bilinear methods
differ by a shift of 0.39 pixels.
"""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8
from PIL import Image

SIZE = 299
RGB = "batch height width 3"


def tensorflow(images: UInt8[Array, RGB]) -> Float[Array, "batch 299 299 3"]:
    """Resizes as the graph of 2015 (TTUR, ADM, EDM): pixel i is from i * width / 299, unshifted."""
    indices = np.arange(SIZE, dtype=np.float32)
    # In float32, as in that graph.
    height, width = (indices * np.float32(side / SIZE) for side in images.shape[1:3])
    return (_bilinear(images.astype(jnp.float32), height, width) - 128) / 128


def pytorch_fid(images: UInt8[Array, RGB]) -> Float[Array, "batch 299 299 3"]:
    """Resizes as pytorch-fid: pixel centers are aligned, and 255 becomes 1."""

    def coordinates(side: int) -> np.ndarray:
        return np.maximum((np.arange(SIZE) + 0.5) * (side / SIZE) - 0.5, 0)

    height, width = map(coordinates, images.shape[1:3])
    return 2 * _bilinear(images.astype(jnp.float32) / 255, height, width) - 1


def _bilinear(
    images: Float[Array, RGB], rows: np.ndarray, columns: np.ndarray
) -> Float[Array, "batch 299 299 3"]:
    """Interpolates each pixel from four neighbors at the coordinates `rows` and `columns`."""

    def between(images: Array, coordinates: np.ndarray, axis: int) -> Array:
        below = np.floor(coordinates).astype(int)
        above = np.minimum(below + 1, images.shape[axis] - 1)
        shape = [1] * images.ndim
        shape[axis] = len(coordinates)
        part = jnp.asarray(coordinates - below, jnp.float32).reshape(shape)
        lower = jnp.take(images, below, axis=axis)
        return lower + (jnp.take(images, above, axis=axis) - lower) * part

    return between(between(images, columns, 2), rows, 1)


def clean(images: UInt8[np.ndarray, RGB]) -> Float[np.ndarray, "batch 299 299 3"]:
    """Resizes as clean-fid (arXiv:2104.11222): Pillow's antialiased bicubic filter, on the host."""

    def resized(channel: np.ndarray) -> np.ndarray:
        image = Image.fromarray(channel.astype(np.float32))
        return np.asarray(image.resize((SIZE, SIZE), Image.Resampling.BICUBIC)).clip(0, 255)

    pixels = [[resized(image[..., channel]) for channel in range(3)] for image in images]
    return (np.moveaxis(np.array(pixels, np.float32), 1, -1) - 128) / 128


# Methods that run on the device, with the network.
ON_DEVICE: dict[str, Callable] = {"tensorflow": tensorflow, "pytorch-fid": pytorch_fid}
RESIZES = (*ON_DEVICE, "clean")
