"""Conversion between pictures of the page and images of the model."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool
from PIL import Image

from diffusion_jax import images
from diffusion_jax.generation.input_images import read_images
from diffusion_jax.images import Picture, Uint8Images
from diffusion_jax.pictures.captions import captioned_grid
from diffusion_jax.playground import sampling
from diffusion_jax.runs.run import Run

WIDTH = 640  # pixels, about, of a picture on the page
LONGEST_SIDE = 4096  # pixels, of an uploaded file
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
# Of a progressive JPEG; ordinary ones have about ten. Each takes the time of a whole picture.
MOST_SCANS = 100


def grid(pixels: np.ndarray, captions: Sequence[str] = ()) -> Image.Image:
    """Returns all images as one picture, at least as wide as high, with few empty cells."""
    least = math.ceil(math.sqrt(len(pixels)))
    columns = min(range(least, 2 * least), key=lambda columns: -len(pixels) % columns)
    upscale = max(1, WIDTH // (pixels.shape[2] * columns))
    return images.to_pil(captioned_grid(np.asarray(pixels), captions, columns, upscale=upscale))


def enlarged(image: Picture) -> Image.Image:
    """Returns one image enlarged to about `WIDTH`, without borders."""
    factor = max(1, WIDTH // image.shape[1])
    return images.to_pil(np.asarray(image).repeat(factor, axis=0).repeat(factor, axis=1))


def read_square(run: Run, file: str | Path) -> Uint8Images:
    """Reads the central square of a file as one image of the model's size.

    Raises ValueError, without the file's folder, if it is too large or cannot be read.
    """
    path = Path(file)
    _check(path, FORMATS)
    model = run.config.model
    side = model.low_resolution if sampling.enlarges(run) else run.config.data.resolution
    try:
        return read_images(path, side=side, channels=model.channels)
    except ValueError as error:
        raise ValueError(str(error).replace(f"{path.parent}/", "")) from None


def painted_mask(run: Run, layers: Sequence[str | Path]) -> Bool[np.ndarray, "side side"]:
    """Returns True for pixels of the model that RGBA layers cover by at least half.

    Raises ValueError if there are none, or if a layer is no PNG file or is too large.
    """
    side = run.config.data.resolution
    painted = np.zeros((side, side), bool)
    for layer in layers:
        _check(Path(layer), ("PNG",))
        with Image.open(layer, formats=["PNG"]) as opened:
            opaque = opened.convert("RGBA").getchannel("A")
        painted |= np.asarray(opaque.resize((side, side), Image.Resampling.BOX)) >= 128
    if not painted.any():
        raise ValueError("Nothing is painted; paint over the pixels to sample again")
    return painted


def _check(path: Path, formats: tuple[str, ...]) -> None:
    """Raises ValueError, without the file's folder, if decoding could take too much."""
    try:
        scans = path.read_bytes().count(b"\xff\xda")
        with Image.open(path, formats=formats) as opened:
            width, height = opened.size
    except Exception:  # Pillow's decoders raise almost anything
        raise ValueError(
            f"{path.name} cannot be read as an image; supported formats: {', '.join(formats)}"
        ) from None
    if max(width, height) > LONGEST_SIDE:
        raise ValueError(
            f"{path.name} has {width} x {height} pixels; at most {LONGEST_SIDE} a side are allowed"
        )
    if scans > MOST_SCANS:
        raise ValueError(
            f"{path.name} is a JPEG of {scans} scans; at most {MOST_SCANS} are allowed"
        )
