"""Masks of pixels to replace: read from files, or checked if they are arrays.

True, or white, is replaced. With transparency, a mask file is one of two: white strokes on a
transparent ground, which are replaced, or the image itself, whose erased pixels are replaced.
"""

from pathlib import Path

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image

from diffusion_jax.data.decoder import Decoder
from diffusion_jax.generation.input_images import Array, Files, paths_of, square

HALF = 127  # gray levels above it are white
WHITE = 250  # least level of white strokes
SAME_LEVELS = 8  # mean difference of two copies of an image, one of them compressed


def read_masks(
    masks: Files | Array, images: Files | Array, *, side: int, rows: int
) -> Bool[np.ndarray, "{rows} {side} {side}"]:
    """Returns one mask for each image, True where pixels are replaced.

    Args:
        masks: Files, white where pixels are replaced, each of the size of its image; they are
            cropped and resized as the images are. Or an array (side, side) or (count, side, side)
            of booleans, of 0 and 1, or of gray levels from 0 to 255. One mask for all images, or
            one for each.
        images: The files or the array that `read_images` took.
        rows: The number of images.

    Raises:
        ValueError: The number or the size of the masks does not fit the images, a mask is
            ambiguous, or it has no pixel to replace.
    """
    if isinstance(masks, np.ndarray):
        found = _of_array(masks, side)
        names = [f"Mask {row}" for row in range(len(found))]
    elif isinstance(images, np.ndarray):
        raise ValueError("Mask files were given with an array of images; give both as arrays")
    else:
        names = paths_of(masks)
        # A single mask has to have the size of every image.
        pairs = zip(names if len(names) > 1 else names * rows, paths_of(images))
        found = np.stack([_of_file(mask, image, side) for mask, image in pairs])
    if len(names) not in (1, rows):
        raise ValueError(f"{len(names)} masks for {rows} images; give one for all, or one for each")
    for name, mask in zip(names, found):
        if not mask.any():
            raise ValueError(
                f"{name} has no pixel to replace; make these white in a file, True in an array"
            )
    return np.broadcast_to(found, (rows, side, side))


def _of_array(masks: Array, side: int) -> Bool[np.ndarray, "count {side} {side}"]:
    if masks.shape[-2:] != (side, side) or masks.ndim > 3:
        raise ValueError(
            f"Unsupported mask of shape {masks.shape}; give ({side}, {side}), or "
            f"(count, {side}, {side})"
        )
    masks = masks.reshape(-1, side, side)
    if masks.dtype == bool:
        return masks
    if np.isin(masks, (0, 1)).all():
        return masks > 0
    if not np.issubdtype(masks.dtype, np.integer) or masks.min() < 0 or masks.max() > 255:
        raise ValueError(
            f"Unsupported mask of type {masks.dtype} with values from {masks.min()} to "
            f"{masks.max()}; give booleans, 0 and 1, or gray levels from 0 to 255"
        )
    return masks > HALF


def _of_file(path: Path, image: Path, side: int) -> Bool[np.ndarray, "{side} {side}"]:
    """Reads a mask of the size of its image. Raises ValueError for another size."""
    mask = Decoder(4, convert=True, upright=True)(path)
    original = Decoder(3, convert=True, upright=True)(image)
    if mask.size != original.size:
        raise ValueError(
            f"The mask {path} has {mask.size[0]} x {mask.size[1]} pixels, but its image {image} "
            f"has {original.size[0]} x {original.size[1]}; make them equal"
        )
    replaced = mask.convert("RGB").convert("L")
    pixels = np.asarray(mask)
    if pixels[..., 3].min() < 255:
        replaced = _of_transparency(path, pixels, np.asarray(original))
    return np.asarray(square(replaced, side)) > HALF


def _of_transparency(
    path: Path,
    mask: UInt8[np.ndarray, "height width 4"],
    image: UInt8[np.ndarray, "height width 3"],
) -> Image.Image:
    """Returns a gray mask for one with transparency. Raises ValueError if it is ambiguous."""
    colors, alpha = mask[..., :3], mask[..., 3]
    opaque = alpha > HALF
    are_strokes = is_erased = False
    if opaque.any():
        are_strokes = bool(colors[opaque].min() >= WHITE)
        differences = np.abs(colors[opaque].astype(int) - image[opaque])
        is_erased = bool(differences.mean() <= SAME_LEVELS)
    if are_strokes == is_erased:
        raise ValueError(
            f"The mask {path} has transparent parts, which may be the ones to replace or to keep: "
            "give white strokes on a transparent ground, the image with the pixels to replace "
            "erased, or black and white without transparency"
        )
    return Image.fromarray(alpha if are_strokes else 255 - alpha)
