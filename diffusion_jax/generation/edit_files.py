"""Image files and masks, as an edit with a run's model takes them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict
from PIL import Image

from diffusion_jax.data.crops import center_crop
from diffusion_jax.data.decoder import Decoder
from diffusion_jax.generation.editing import Masks
from diffusion_jax.generation.sampler import HostImages


def read_images(
    paths: Sequence[Path], config: ConfigDict, *, size: int | None = None
) -> HostImages:
    """Image files as the run's model takes them. size: of their sides; None: data.resolution.

    Images of another size are cut to the largest central square and resized. Transparent and other
    unusual ones are converted. Raises ValueError, which names the file, if one cannot be read.
    """
    decode = Decoder(config.model.channels, convert=True, upright=True)
    size = size or config.data.resolution
    pixels = [np.asarray(_square(decode(path), size)) for path in paths]
    shape = (len(paths), size, size, config.model.channels)
    return (np.stack(pixels).reshape(shape) / 127.5 - 1).astype(np.float32)


def read_masks(paths: Sequence[Path], images: Sequence[Path], config: ConfigDict) -> Masks:
    """The masks of images: 0 where a file is white, 1 where it is black.

    They are cut and resized as the images are. Raises ValueError if a mask differs from its image
    in size, or if nothing of it is black or nothing white.
    """
    return np.concatenate([_read_mask(*pair, config) for pair in zip(paths, images)])


def _read_mask(path: Path, image: Path, config: ConfigDict) -> Masks:
    decode = Decoder(1, convert=True, upright=True)
    drawn = decode(path)
    wanted = decode(image).size
    if drawn.size != wanted:
        raise ValueError(
            f"The mask {path} has {drawn.size[0]} x {drawn.size[1]} pixels, and its image {image} "
            f"{wanted[0]} x {wanted[1]}; make them equal"
        )
    size = config.data.resolution
    white = np.asarray(_square(drawn, size)) > 127
    if white.all() or not white.any():
        raise ValueError(
            f"The mask {path} is all {'white' if white.all() else 'black'}; paint white what is to "
            "be drawn anew, and black what is to be kept"
        )
    return (~white).astype(np.float32)[None, :, :, None]


def _square(image: Image.Image, size: int) -> Image.Image:
    return image if image.size == (size, size) else center_crop(image, size)
