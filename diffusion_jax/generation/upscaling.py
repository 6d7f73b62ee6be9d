"""Upscaling of samples: repeated pixels, a Lanczos filter, or a network."""

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree, UInt8
from PIL import Image

from diffusion_jax import parallel
from diffusion_jax.files.paths import local_path
from diffusion_jax.images import to_pil
from diffusion_jax.models.rrdbnet import FACTOR, RRDBNet

# Maps uint8 images (..., height, width, channels) to larger ones.
Upscaler = Callable[[np.ndarray], np.ndarray]

NEAREST, LANCZOS = "nearest", "lanczos"
# Rec. 601, as in Pillow's conversion of RGB to gray.
LUMA = (0.299, 0.587, 0.114)


def identity(images: np.ndarray) -> np.ndarray:
    """Returns the images."""
    return images


def make_upscaler(
    name: str,
    factor: int,
    *,
    read_network: Callable[[Path], tuple[RRDBNet, PyTree]],
    progress: Callable[[Iterable], Iterable] = iter,
) -> Upscaler:
    """Returns the upscaler of a name.

    Args:
        name: nearest, lanczos, or a file with the weights of an RRDBNet.
        factor: the ratio of the sides; 1 or 4 for a network, whose ratio is 4.
        read_network: reads a file into a network and its parameters.
        progress: wrapper of the iteration over batches, such as tqdm.

    Raises:
        ValueError: the name is unknown, or the factor does not fit it.
    """
    if name == NEAREST:
        return partial(nearest, factor=factor)
    if name == LANCZOS:
        if factor == 1:
            raise ValueError("--upscaler=lanczos needs a factor; for example: --upscale 4")
        return partial(lanczos, factor=factor)
    path = local_path(name)
    if not path.is_file():
        raise ValueError(
            f"--upscaler={name} is neither nearest nor lanczos, nor the path of a file like "
            "RealESRGAN_x4plus.pth"
        )
    if factor not in (1, FACTOR):
        raise ValueError(
            f"--upscale={factor} was given, but the network {name} enlarges {FACTOR} times; leave "
            "--upscale out"
        )
    if jax.process_count() > 1:  # one process writes the images
        raise ValueError(
            f"--upscaler={name} is a network, which enlarges in a single process, and "
            f"{jax.process_count()} were started; choose nearest or lanczos"
        )
    return NetworkUpscaler(*read_network(path), progress=progress)


def nearest(
    images: UInt8[np.ndarray, "*batch height width channels"], *, factor: int
) -> UInt8[np.ndarray, "*batch {factor}*height {factor}*width channels"]:
    """Repeats each pixel factor x factor times."""
    return images.repeat(factor, axis=-3).repeat(factor, axis=-2)


def lanczos(
    images: UInt8[np.ndarray, "*batch height width channels"], *, factor: int
) -> UInt8[np.ndarray, "*batch {factor}*height {factor}*width channels"]:
    """Resizes with Pillow's Lanczos filter, whose support is three pixels on each side."""
    larger = _empty(images, factor)
    for image, place in zip(_flat(images), _flat(larger)):
        size = factor * image.shape[1], factor * image.shape[0]
        resized = to_pil(image).resize(size, Image.Resampling.LANCZOS)
        place[:] = np.asarray(resized).reshape(place.shape)
    return larger


class NetworkUpscaler:
    """Fourfold enlargement with an RRDBNet, on all devices.

    Gray images enter the network as RGB. The result is converted back by `LUMA`, since its
    channels may differ. All processes must call the upscaler with the same images.

    Args:
        network: the network.
        params: its parameters.
        batch_size: global, divisible by the number of devices; None for about 8.
        progress: wrapper of the iteration over batches, such as tqdm.
    """

    def __init__(
        self,
        network: RRDBNet,
        params: PyTree,
        *,
        batch_size: int | None = None,
        progress: Callable[[Iterable], Iterable] = iter,
    ):
        self._batch_size = batch_size or parallel.round_up(8)
        parallel.check_batch_size(self._batch_size)
        self._params, self._progress = parallel.replicate(params), progress
        self._run = parallel.map_batch(partial(_enlarged, network))

    def __call__(
        self, images: UInt8[np.ndarray, "*batch height width channels"]
    ) -> UInt8[np.ndarray, "*batch 4*height 4*width channels"]:
        """Enlarges images. Raises ValueError unless they have one channel or three."""
        if images.shape[-1] not in (1, 3):
            raise ValueError(
                f"The images have {images.shape[-1]} channels; give images with 1 or 3"
            )
        larger = _empty(images, FACTOR)
        rows, places = _flat(images), _flat(larger)
        for first in self._progress(range(0, len(rows), self._batch_size)):
            # Repeats fill the last batch, so that all have one shape.
            index = np.minimum(np.arange(first, first + self._batch_size), len(rows) - 1)
            enlarged = self._run(self._params, None, parallel.local_rows(rows[index]))
            places[first : first + self._batch_size] = enlarged[: len(rows) - first]
        return larger


def _enlarged(
    network: RRDBNet,
    params: PyTree,
    _: None,
    images: UInt8[Array, "batch height width channels"],
) -> UInt8[Array, "batch 4*height 4*width channels"]:
    """Enlarges the rows of one device."""
    gray = images.shape[-1] == 1
    x = images.astype(jnp.float32) / 255
    y = network.apply({"params": params}, x.repeat(3, axis=-1) if gray else x)
    y = jnp.clip(cast(Array, y), 0, 1)
    if gray:
        y = sum(weight * y[..., i : i + 1] for i, weight in enumerate(LUMA))
    return jnp.round(255 * y).astype(jnp.uint8)


def _empty(images: np.ndarray, factor: int) -> np.ndarray:
    """Returns an uninitialized array for the enlarged images."""
    *batch, height, width, channels = images.shape
    return np.empty((*batch, factor * height, factor * width, channels), np.uint8)


def _flat(images: np.ndarray) -> np.ndarray:
    """Returns a view with one batch axis."""
    count = int(np.prod(images.shape[:-3]))
    return images.reshape(count, *images.shape[-3:])
