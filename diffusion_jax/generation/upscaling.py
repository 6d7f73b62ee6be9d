"""Enlarging images that have been drawn: pixel by pixel, with Lanczos, or with a network."""

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree, UInt8
from PIL import Image

from diffusion_jax import parallel
from diffusion_jax.images import to_pil
from diffusion_jax.models.rrdbnet import FACTOR, RRDBNet

# From uint8 images (..., height, width, channels) to larger ones.
Upscaler = Callable[[np.ndarray], np.ndarray]

NEAREST, LANCZOS = "nearest", "lanczos"
# Rec. 601, as Pillow makes gray images of RGB ones.
LUMA = (0.299, 0.587, 0.114)


def unchanged(images: np.ndarray) -> np.ndarray:
    """The images as they are."""
    return images


def make_upscaler(
    name: str,
    factor: int,
    *,
    read_network: Callable[[Path], tuple[RRDBNet, PyTree]],
    progress: Callable[[Iterable], Iterable] = iter,
) -> Upscaler:
    """The upscaler of this name: nearest, lanczos, or the file of an RRDBNet's weights.

    factor: how many times as high and as wide; a network has its own, 4, and also accepts 1 for it.
    read_network: from the path to network and parameters. progress: see `Network`. Raises
    ValueError for an unknown name, a factor that does not go with it, or what read_network raises.
    """
    if name == NEAREST:
        return partial(nearest, factor=factor)
    if name == LANCZOS:
        if factor == 1:
            raise ValueError("--upscaler=lanczos needs a factor; for example: --upscale 4")
        return partial(lanczos, factor=factor)
    path = Path(name).expanduser()
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
    if jax.process_count() > 1:  # pictures are written by one of them
        raise ValueError(
            f"--upscaler={name} is a network, which enlarges in a single process, and "
            f"{jax.process_count()} were started; choose nearest or lanczos"
        )
    return Network(*read_network(path), progress=progress)


def nearest(
    images: UInt8[np.ndarray, "*batch height width channels"], *, factor: int
) -> UInt8[np.ndarray, "*batch {factor}*height {factor}*width channels"]:
    """Each pixel becomes factor x factor pixels."""
    return images.repeat(factor, axis=-3).repeat(factor, axis=-2)


def lanczos(
    images: UInt8[np.ndarray, "*batch height width channels"], *, factor: int
) -> UInt8[np.ndarray, "*batch {factor}*height {factor}*width channels"]:
    """Pillow's Lanczos filter, which reaches over three pixels to each side."""
    larger = _room(images, factor)
    for image, place in zip(_flat(images), _flat(larger)):
        size = factor * image.shape[1], factor * image.shape[0]
        resized = to_pil(image).resize(size, Image.Resampling.LANCZOS)
        place[:] = np.asarray(resized).reshape(place.shape)
    return larger


class Network:
    """Enlarges images four times with an RRDBNet, on all devices, in batches of one size.

    A gray image goes through the network as an RGB image of three equal channels. The result's
    channels are averaged with the weights of Rec. 601, since the network may have colored it.
    batch_size: global, divisible by the number of devices; default: about 8. progress: wraps the
    iteration over batches (tqdm, say). In several processes, all must call it with the same images.
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
        self._run = parallel.spread(partial(_enlarged, network))

    def __call__(
        self, images: UInt8[np.ndarray, "*batch height width channels"]
    ) -> UInt8[np.ndarray, "*batch 4*height 4*width channels"]:
        """Raises ValueError unless the images have one channel or three."""
        if images.shape[-1] not in (1, 3):
            raise ValueError(f"The images have {images.shape[-1]} channels; 1 or 3 were expected")
        larger = _room(images, FACTOR)
        rows, places = _flat(images), _flat(larger)
        for first in self._progress(range(0, len(rows), self._batch_size)):
            # The last batch is filled up with repeats, so that all have one shape.
            index = np.minimum(np.arange(first, first + self._batch_size), len(rows) - 1)
            drawn = self._run(self._params, None, parallel.local_rows(rows[index]))
            places[first : first + self._batch_size] = drawn[: len(rows) - first]
        return larger


def _enlarged(
    network: RRDBNet,
    params: PyTree,
    _: None,
    images: UInt8[Array, "batch height width channels"],
) -> UInt8[Array, "batch 4*height 4*width channels"]:
    """A device's rows; what runs on the device."""
    gray = images.shape[-1] == 1
    x = images.astype(jnp.float32) / 255
    y = network.apply({"params": params}, x.repeat(3, axis=-1) if gray else x)
    y = jnp.clip(y, 0, 1)
    if gray:
        y = sum(weight * y[..., i : i + 1] for i, weight in enumerate(LUMA))
    return jnp.round(255 * y).astype(jnp.uint8)


def _room(images: np.ndarray, factor: int) -> np.ndarray:
    """An array for the images `factor` times as high and as wide."""
    *batch, height, width, channels = images.shape
    return np.empty((*batch, factor * height, factor * width, channels), np.uint8)


def _flat(images: np.ndarray) -> np.ndarray:
    """A view with one batch axis."""
    count = int(np.prod(images.shape[:-3]))
    return images.reshape(count, *images.shape[-3:])
