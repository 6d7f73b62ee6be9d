"""Image sets for evaluation, read in parts: from an npz, a folder, or any other source."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from diffusion_jax.data import left_out, pixel_notes
from diffusion_jax.data.decoder import AmbiguousImage, Decoder
from diffusion_jax.data.folder import find_images
from diffusion_jax.data.folder_options import FolderOptions
from diffusion_jax.data.pixel_notes import PixelNotes
from diffusion_jax.files import npz
from diffusion_jax.images import Uint8Images

MOST_PIXELS = 2**21  # per image of a folder; 1,024 images are in memory at a time


@dataclass(frozen=True)
class ImageSet:
    """uint8 images of one size, read or sampled in parts.

    Args:
        count: of images.
        shape: (height, width, channels).
        read: (first, count) -> images.
        about: provenance of the images.
        data: `Description.provenance` of the model's training data, where known.
        note: a warning about them, or "".
    """

    count: int
    shape: tuple[int, ...]
    read: Callable[[int, int], Uint8Images]
    about: dict[str, Any]
    data: dict[str, Any]
    note: str = ""

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"count={self.count} must be at least 1")
        if len(self.shape) != 3:
            raise ValueError(f"shape={self.shape} must be (height, width, channels)")


def from_files(path: Path, count: int | None, channels: int) -> ImageSet:
    """Returns the images of an npz (arr_0), or of a folder whose images have one size.

    Args:
        count: use the first `count` images; None for all.
        channels: of the decoded files of a folder.

    Raises:
        ValueError: if there are fewer images, or none.
        FileNotFoundError: if there is no such file or folder.
    """
    about: dict[str, Any] = {"images": str(path.resolve())}
    note = ""
    if path.suffix == ".npz" and path.is_file():
        rows = read_npz(path)
        found, read = len(rows), lambda first, number: rows[first : first + number]
        about["sha256"] = hashlib.sha256(np.ascontiguousarray(rows).data).hexdigest()
    elif path.is_dir():
        listing = find_images(path, FolderOptions(labels="none"))
        files = [path / file for file in listing.files]
        notes = [left_out.line(listing.left_out), listing.note, *_conversions(path, files)]
        note = ". ".join(filter(None, notes))
        found = len(files)
        read = lambda first, number: _decoded(files[first : first + number], channels)  # noqa: E731
        about |= {"state": listing.state(range(found)), "channels": channels}
        about["left_out"] = left_out.counts(listing.left_out)
    else:
        raise FileNotFoundError(f"--images={path} is neither a folder nor an .npz file")
    if count is not None and count > found:
        raise ValueError(f"{path} has {found} images; --count={count} must be at most that")
    about["found"] = found
    shape = read(0, 1).shape[1:]
    return ImageSet(count or found, shape, read, about, {"shape": list(shape)}, note)


def _conversions(root: Path, files: Sequence[Path]) -> list[str]:
    """Returns lines on orientations and color profiles, as the headers of the files have them."""
    decode = Decoder(3, notes=PixelNotes(root))
    for file in files:
        decode.add_header(file)
    advised = pixel_notes.lines(decode.notes.take(), len(files))
    return [line.partition(";")[0] for line in advised]  # the fields belong to training


def read_npz(path: Path) -> Uint8Images:
    """Reads arr_0 of an npz of images, as ADM writes it. Raises ValueError if there are none."""
    arrays = npz.read(path)
    if "arr_0" not in arrays:
        names = ", ".join(sorted(arrays)) or "nothing"
        raise ValueError(f"{path} has no arr_0; it has: {names}")
    return check_images(arrays["arr_0"], path)


def check_images(images: np.ndarray, path: Path) -> Uint8Images:
    """Returns arr_0 of the file `path`. Raises ValueError unless it holds gray or RGB images."""
    usual = images.dtype == np.uint8 and images.ndim == 4 and images.shape[-1] in (1, 3)
    if not usual or not len(images):
        raise ValueError(
            f"{path} has arr_0 of type {images.dtype} and shape {images.shape}; uint8 images "
            "(count, height, width, 1 or 3) are expected"
        )
    return images


def _decoded(files: Sequence[Path], channels: int) -> Uint8Images:
    """Decodes files. Raises ValueError if the images differ in size or are too large."""
    decode = Decoder(channels)
    pixels: list[np.ndarray] = []
    for file in files:
        try:
            array = np.asarray(decode(file))
        except AmbiguousImage as error:
            kind = "gray" if channels == 1 else "RGB"
            raise ValueError(
                f"{error.what}, and there is no single way to compare it with the reference; save "
                f"the images as 8-bit {kind} PNG first"
            ) from None
        height, width = array.shape[:2]
        if height * width > MOST_PIXELS:
            raise ValueError(
                f"{file} has {width}x{height} pixels; images to be evaluated have at most "
                f"{MOST_PIXELS:,}. Resize them first"
            )
        if pixels and array.shape[:2] != pixels[0].shape[:2]:
            high, wide = pixels[0].shape[:2]
            raise ValueError(
                f"The images have several sizes: {files[len(pixels) - 1]} {wide}x{high}, {file} "
                f"{width}x{height}; resize them first"
            )
        pixels.append(array.reshape(height, width, channels))
    return np.stack(pixels)
