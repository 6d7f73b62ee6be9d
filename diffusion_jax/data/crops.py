"""Crops of images to squares, identical to those of published code.

Reference statistics are only comparable with images that were cropped in the same way.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from diffusion_jax.files import limits
from diffusion_jax.images import to_pil

BILINEAR, BICUBIC = Image.Resampling.BILINEAR, Image.Resampling.BICUBIC
LANCZOS, BOX = Image.Resampling.LANCZOS, Image.Resampling.BOX


def stretch(image: Image.Image, size: int) -> Image.Image:
    """Resizes the whole image, ignoring its aspect ratio (torchvision's bilinear Resize)."""
    return image.resize((size, size), BILINEAR)


def center_crop(image: Image.Image, size: int) -> Image.Image:
    """Cuts the largest central square and resizes it with Lanczos (EDM, arXiv:2206.00364)."""
    side = min(image.size)
    return _cut_center(image, side).resize((size, size), LANCZOS)


def center_crop_dhariwal(image: Image.Image, size: int) -> Image.Image:
    """Halves with a box filter down to less than twice `size`, resizes bicubically, and crops.

    The crop of ADM (Dhariwal and Nichol, arXiv:2105.05233), Improved DDPM and EDM2. Raises
    ValueError for an image so long and narrow that it would be enlarged too far.
    """
    while min(image.size) >= 2 * size:
        image = image.resize((image.width // 2, image.height // 2), BOX)
    scale = size / min(image.size)
    enlarged = round(image.width * scale), round(image.height * scale)
    _check_enlarged(image.size, enlarged)
    return _cut_center(image.resize(enlarged, BICUBIC), size)


def _cut_center(image: Image.Image, side: int) -> Image.Image:
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side))


CROPS: dict[str, Callable[[Image.Image, int], Image.Image]] = {
    "stretch": stretch,
    "center-crop": center_crop,
    "center-crop-dhariwal": center_crop_dhariwal,
}
RANDOM = "random-resized-crop"
KNOWN = (*CROPS, RANDOM)


def resize_shorter(image: Image.Image, side: int) -> Image.Image:
    """Resizes the shorter side to `side` pixels, and the longer one in proportion, rounded down.

    Raises ValueError for an image so long and narrow that it would be enlarged too far.
    """
    shorter = min(image.size)
    enlarged = image.width * side // shorter, image.height * side // shorter
    _check_enlarged(image.size, enlarged)
    return image.resize(enlarged, BILINEAR)


def _check_enlarged(before: tuple[int, int], after: tuple[int, int]) -> None:
    """Raises ValueError if a resize to `after`, before a crop, takes far too many pixels."""
    if after[0] * after[1] > max(limits.ENLARGED_PIXELS, before[0] * before[1]):
        raise ValueError(
            f"it has {before[0]} x {before[1]} pixels, and would be enlarged to {after[0]} x "
            f"{after[1]} before it is cropped, more than {limits.ENLARGED_PIXELS:,}"
        )


@dataclass(frozen=True)
class Crop:
    """Crop of images to the squares that are stored on disk.

    method: one of `KNOWN`. resolution: side of the squares, None if still unknown. shorter_side:
    only for random-resized-crop, which crops during training: images are stored with their aspect
    ratio, and with a shorter side of this length; None is 5/4 of resolution. Raises ValueError for
    values that are not allowed.
    """

    method: str
    resolution: int | None
    shorter_side: int | None = None

    def __post_init__(self) -> None:
        if self.method not in KNOWN:
            raise ValueError(f"data.crop={self.method!r} must be one of {', '.join(KNOWN)}")
        if self.resolution is not None and self.resolution < 1:
            raise ValueError(f"data.resolution={self.resolution} must be at least 1")
        if self.shorter_side is not None and self.shorter_side < (self.resolution or 1):
            raise ValueError(
                f"data.shorter_side={self.shorter_side} must be at least "
                f"data.resolution={self.resolution or 1}"
            )

    def __call__(self, image: Image.Image) -> Image.Image:
        if self.method == RANDOM:
            return resize_shorter(image, self.side)
        assert self.resolution is not None, self
        return CROPS[self.method](image, self.resolution)

    @property
    def side(self) -> int:
        """Side of the images on disk, or the shorter one for random-resized-crop."""
        assert self.resolution is not None, self
        if self.method == RANDOM:
            return self.shorter_side or self.resolution * 5 // 4
        return self.resolution

    def origin(self) -> dict[str, str]:
        """Returns the settings that the stored pixels depend on, for `cache.Description`."""
        more = {"shorter_side": str(self.side)} if self.method == RANDOM else {}
        return {"crop": self.method, **more}

    def image_bytes(self, channels: int) -> int:
        """Returns the bytes of an image on disk, for random-resized-crop with aspect ratio 4:3."""
        longer = self.side * 4 // 3 if self.method == RANDOM else self.side
        return self.side * longer * channels

    def shape(self, channels: int) -> tuple[int, int, int]:
        """Returns the shape as in `cache.Description`."""
        return (0, 0, channels) if self.method == RANDOM else (self.side, self.side, channels)


@dataclass(frozen=True)
class RandomResizedCrop:
    """Boxes of random area and aspect ratio, resized to squares (torchvision's RandomResizedCrop).

    The augmentation of Inception. size: side of the squares. smallest: minimum fraction of the
    image's area; the aspect ratio is between 3/4 and 4/3. After ten boxes that do not fit, the
    largest central box with an allowed aspect ratio is used.
    """

    size: int
    smallest: float = 0.8

    def __post_init__(self) -> None:
        if not 0 < self.smallest <= 1:
            raise ValueError(f"data.smallest_crop={self.smallest} must be above 0 and at most 1")

    def __call__(
        self, images: np.ndarray, generators: Sequence[np.random.Generator]
    ) -> UInt8[np.ndarray, "batch size size channels"]:
        """Cuts a random square from each image, with a generator for each.

        images: uint8 (height, width, channels) each, in an object array if sizes differ.
        """
        squares = []
        for image, generator in zip(images, generators):
            left, top, width, height = self.box(image.shape[1], image.shape[0], generator)
            part = np.ascontiguousarray(image[top : top + height, left : left + width])
            square = to_pil(part).resize((self.size, self.size), BILINEAR)
            squares.append(np.asarray(square).reshape(self.size, self.size, -1))
        return np.stack(squares)

    def box(
        self, width: int, height: int, generator: np.random.Generator
    ) -> tuple[int, int, int, int]:
        """Returns a random (left, top, width, height) in an image of this size."""
        for _ in range(10):
            area = width * height * generator.uniform(self.smallest, 1)
            aspect = math.exp(generator.uniform(math.log(3 / 4), math.log(4 / 3)))
            wide, high = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if 0 < wide <= width and 0 < high <= height:
                left, top = generator.integers((width - wide + 1, height - high + 1)).tolist()
                return left, top, wide, high
        wide, high = min(width, round(height * 4 / 3)), min(height, round(width * 4 / 3))
        return (width - wide) // 2, (height - high) // 2, wide, high
