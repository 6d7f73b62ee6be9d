"""Images and masks to edit: read from files, or checked if they are arrays."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Shaped
from PIL import Image

from diffusion_jax.data.crops import center_crop
from diffusion_jax.data.decoder import Decoder
from diffusion_jax.images import Uint8Images

Files = str | Path | Sequence[str | Path]
Array = Shaped[np.ndarray, "..."]


def read_images(images: Files | Array, *, side: int, channels: int) -> Uint8Images:
    """Returns uint8 images (rows, side, side, channels).

    Args:
        images: Files, which are cropped to the central square, resized, and converted from any
            color mode; or an array of the result's shape, or of a single image.

    Raises:
        ValueError: A file cannot be read, or an array has another shape or type.
    """
    shape = (side, side, channels)
    if not isinstance(images, np.ndarray):
        decode = Decoder(channels, convert=True, upright=True)
        squares = [np.asarray(_square(decode(path), side)) for path in _paths(images)]
        return np.stack(squares).reshape(-1, *shape)
    images = images[None] if images.shape == shape else images
    if images.dtype != np.uint8 or images.shape[1:] != shape:
        raise ValueError(
            f"Unsupported images of type {images.dtype} and shape {images.shape}; give uint8 "
            f"images of shape (count, {side}, {side}, {channels}), or image files"
        )
    return np.asarray(images)


def read_masks(
    masks: Files | Array, images: Files | Array, *, side: int, rows: int
) -> Bool[np.ndarray, "{rows} {side} {side}"]:
    """Returns one mask for each image, True where pixels are replaced.

    Args:
        masks: Files, white where pixels are replaced, each of the size of its image; they are
            cropped and resized as the images are. Or an array (side, side) or (count, side, side).
            One mask for all images, or one for each.
        images: The files or the array that `read_images` took.
        rows: The number of images.

    Raises:
        ValueError: The number or the size of the masks does not fit the images, or a mask has no
            pixel to replace.
    """
    if isinstance(masks, np.ndarray):
        if masks.shape[-2:] != (side, side) or masks.ndim > 3:
            raise ValueError(
                f"Unsupported mask of shape {masks.shape}; give ({side}, {side}), or "
                f"(count, {side}, {side})"
            )
        found = masks.reshape(-1, side, side) > 0
        names = [f"Mask {row}" for row in range(len(found))]
    elif isinstance(images, np.ndarray):
        raise ValueError("Mask files were given with an array of images; give both as arrays")
    else:
        names = _paths(masks)
        # A single mask has to have the size of every image.
        pairs = zip(names if len(names) > 1 else names * rows, _paths(images))
        found = np.stack([_mask(mask, image, side) for mask, image in pairs])
    if len(names) not in (1, rows):
        raise ValueError(f"{len(names)} masks for {rows} images; give one for all, or one for each")
    for name, mask in zip(names, found):
        if not mask.any():
            raise ValueError(
                f"{name} has no pixel to replace; make these white in a file, True in an array"
            )
    return np.broadcast_to(found, (rows, side, side))


def _mask(path: Path, image: Path, side: int) -> Bool[np.ndarray, "{side} {side}"]:
    decode = Decoder(1, convert=True, upright=True)
    mask, size = decode(path), decode(image).size
    if mask.size != size:
        raise ValueError(
            f"The mask {path} has {mask.size[0]} x {mask.size[1]} pixels, but its image {image} "
            f"has {size[0]} x {size[1]}; make them equal"
        )
    return np.asarray(_square(mask, side)) > 127


def _paths(files: Files) -> list[Path]:
    return [Path(file) for file in ([files] if isinstance(files, str | Path) else files)]


def _square(image: Image.Image, side: int) -> Image.Image:
    return image if image.size == (side, side) else center_crop(image, side)
