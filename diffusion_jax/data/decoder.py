"""Decoding of image files to 8-bit grayscale or RGB, without ambiguous conversions."""

import threading
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from diffusion_jax.files import limits

ALPHA = ("LA", "PA", "RGBA", "La", "RGBa")
# Pillow decodes EPS with Ghostscript, which executes PostScript programs.
NOT_OPENED = {"EPS"}
_EIGHT_BITS = np.rint(np.arange(2**16) / 257).astype(np.uint8)
_LARGE_IMAGE = threading.Lock()  # held by the thread that decodes one


def formats() -> list[str]:
    """Returns the supported file formats by their names in Pillow."""
    Image.init()
    return [name for name in Image.OPEN if name not in NOT_OPENED]


def open_image(path: Path) -> Image.Image:
    """Opens an image file and reads its header.

    Raises DecompressionBombError for images with more than `limits.IMAGE_PIXELS`, and almost any
    other exception for damaged files. The first call sets Pillow's limit for the whole process.
    """
    _configure_pillow()
    return Image.open(path, formats=formats())


@cache
def _configure_pillow() -> None:
    Image.MAX_IMAGE_PIXELS = limits.IMAGE_PIXELS // 2  # Pillow refuses more than twice this number
    # Pillow warns, in two lines each, about large images and damage that it can handle.
    warnings.filterwarnings("ignore", module=r"PIL\.")


class AmbiguousImage(ValueError):
    """An intact image whose conversion is ambiguous; the message names the option to set."""

    def __init__(self, path: Path, what: str, how: str):
        super().__init__(f"{path} {what}; set data.convert=True to take {how}")


@dataclass(frozen=True)
class Decoder:
    """Decoder of image files to a fixed number of channels: 1 is grayscale, 3 is RGB.

    Grayscale and RGB are converted into each other (ITU-R 601 luma), and palettes are expanded.
    Ambiguous images are refused unless `convert` is set: then transparency is composited on white,
    CMYK and other color spaces are converted to RGB without a color profile, 16-bit values are
    scaled so that 65535 becomes 255, and the first frame of an animation is used.

    upright: rotate images according to their EXIF orientation; otherwise it is ignored, as in the
    usual pipelines, and files that have one are collected in `rotated`. then: applied to each
    decoded image, such as a crop.
    """

    channels: int
    convert: bool = False
    upright: bool = False
    rotated: list[Path] = field(default_factory=list)
    then: Callable[[Image.Image], Image.Image] | None = None

    def __call__(self, path: Path) -> Image.Image:
        """Decodes one file. Raises ValueError, which names the file, if it cannot be used.

        Large images are decoded, and cropped, by one thread at a time.
        """
        if not path.is_file():
            raise ValueError(f"{path} is not a file, or is a broken link")
        try:
            with open_image(path) as image:
                large = image.width * image.height >= limits.LARGE_IMAGE_PIXELS
                with _LARGE_IMAGE if large else nullcontext():
                    plain = self._plain(image, path)
                    return self.then(plain) if self.then else plain
        except AmbiguousImage:
            raise
        except Image.DecompressionBombError:
            raise ValueError(
                f"{path} has more than {limits.IMAGE_PIXELS:,} pixels, the most that are read. "
                "Make it smaller, or leave it out"
            ) from None
        except PermissionError as error:
            raise ValueError(
                f"{path} cannot be read: {error.strerror}; change its permissions (chmod)"
            ) from None
        except UnidentifiedImageError:
            raise ValueError(f"{path} cannot be read as an image: its format is unknown") from None
        except Exception as error:  # Pillow's decoders raise almost anything
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ValueError(f"{path} cannot be read as an image: {reason}") from None

    def _plain(self, image: Image.Image, path: Path) -> Image.Image:
        # An MPO file of a camera is one picture with previews.
        frames = getattr(image, "n_frames", 1)
        if frames > 1 and image.format != "MPO" and not self.convert:
            raise AmbiguousImage(path, f"has {frames} frames", "the first")
        if _is_deep(image) and not self.convert:
            raise AmbiguousImage(path, "has 16 bits per channel", "8 of them")
        if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
            self.rotated.append(path)
        image.load()
        if self.upright:
            image = ImageOps.exif_transpose(image)
        if image.mode in ALPHA or "transparency" in image.info:
            image = self._opaque(image.convert("RGBA"), path)
        elif image.mode.startswith("I;16"):
            image = Image.fromarray(_EIGHT_BITS[np.asarray(image)])
        elif image.mode in ("I", "F"):
            raise ValueError("it has 32 bits per pixel and no defined white level")
        elif image.mode not in ("1", "L", "P", "RGB") and not self.convert:
            raise AmbiguousImage(path, f"is in {image.mode} colors", "Pillow's conversion to RGB")
        if image.mode not in ("1", "L"):
            image = image.convert("RGB")  # palettes too, before the conversion to grayscale
        return image.convert("L" if self.channels == 1 else "RGB")

    def _opaque(self, image: Image.Image, path: Path) -> Image.Image:
        if image.getchannel("A").getextrema() != (255, 255):
            if not self.convert:
                raise AmbiguousImage(path, "has transparent parts", "them composited on white")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        return image.convert("RGB")


def _is_deep(image: Image.Image) -> bool:
    """True if channels have more than 8 bits; Pillow silently drops the lower ones of RGB."""
    if image.mode.startswith("I;16"):
        return True
    for codec, _, _, arguments in getattr(image, "tile", ()):
        if ";16" in str(arguments) or (codec == "ppm" and arguments[1] > 255):
            return True
    return False
