"""Decoding of image files to 8-bit grayscale or RGB, without ambiguous conversions."""

import io
import threading
import warnings
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, cast

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from diffusion_jax.data import pixel_notes
from diffusion_jax.data.color_profiles import Conversion, conversion_to_srgb
from diffusion_jax.data.pixel_notes import PixelNotes
from diffusion_jax.files import limits

ALPHA = ("LA", "PA", "RGBA", "La", "RGBa")
# Pillow decodes EPS with Ghostscript, which executes PostScript programs.
NOT_OPENED = {"EPS"}
DEEP_BITS = 16
_LARGE_IMAGE = threading.Lock()  # held by the thread that decodes one


def formats() -> list[str]:
    """Returns the supported file formats by their names in Pillow."""
    Image.init()
    return [name for name in Image.OPEN if name not in NOT_OPENED]


def open_image(file: Path | io.BytesIO) -> Image.Image:
    """Opens an image file and reads its header.

    Raises DecompressionBombError for images with more than `limits.IMAGE_PIXELS`, and almost any
    other exception for damaged files. The first call sets Pillow's limit for the whole process.
    """
    _configure_pillow()
    return Image.open(file, formats=formats())


@cache
def _configure_pillow() -> None:
    Image.MAX_IMAGE_PIXELS = limits.IMAGE_PIXELS // 2  # Pillow refuses more than twice this number
    # Pillow warns, in two lines each, about large images and damage that it can handle.
    warnings.filterwarnings("ignore", module=r"PIL\.")


class AmbiguousImage(ValueError):
    """An intact image whose conversion is ambiguous; the message names the option to set."""

    def __init__(self, path: Path, what: str, how: str):
        self.what = f"{path} {what}"
        super().__init__(f"{path} {what}; set data.convert=True to take {how}")


@dataclass(frozen=True)
class Decoder:
    """Decoder of image files to a fixed number of channels: 1 is grayscale, 3 is RGB, 4 is RGBA.

    Grayscale and RGB are converted into each other (ITU-R 601 luma), and palettes are expanded.
    Ambiguous images are refused unless `convert` is set: then transparency is composited on white,
    or kept in RGBA, CMYK and other color spaces are converted to RGB, 16-bit values are scaled to 8
    bits, and the first frame of an animation is used.

    Attributes:
        upright: rotate images according to their EXIF orientation; otherwise it is ignored, as in
            the usual pipelines, except in TIFF files, which Pillow always rotates.
        srgb: convert colors to sRGB by the embedded profile, or the gamma of a PNG; otherwise they
            are ignored, as in the usual pipelines.
        bits: used bits of 16-bit gray images, so that 2^bits - 1 becomes 255.
        then: applied to each decoded image, such as a crop.
        notes: counts of conversions.
    """

    channels: int
    convert: bool = False
    upright: bool = False
    srgb: bool = False
    bits: int = DEEP_BITS
    then: Callable[[Image.Image], Image.Image] | None = None
    notes: PixelNotes = field(default_factory=PixelNotes)

    def __call__(self, path: Path, content: io.BytesIO | None = None) -> Image.Image:
        """Decodes one file. Raises ValueError, which names the file, if it cannot be used.

        Large images are decoded, and cropped, by one thread at a time.

        content: an open file in place of the one at `path`, such as a member of an archive.
        """
        if content is None and not path.is_file():
            raise ValueError(f"{path} is not a file, or is a broken link")
        kinds: list[str] = []  # of conversions
        try:
            with open_image(content or path) as image:
                large = image.width * image.height >= limits.LARGE_IMAGE_PIXELS
                with _LARGE_IMAGE if large else nullcontext():
                    plain = self._plain(image, path, kinds)
                    decoded = self.then(plain) if self.then else plain
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
        self.notes.add(kinds, path)
        return decoded

    def _plain(self, image: Image.Image, path: Path, kinds: list[str]) -> Image.Image:
        """Converts an opened image, and appends the kinds of conversions."""
        # An MPO file of a camera is one picture with previews.
        frames = getattr(image, "n_frames", 1)
        if frames > 1 and image.format != "MPO":
            self._require_convert(path, f"has {frames} frames", "the first")
            kinds.append("frames")
        is_deep = _is_deep(image)
        if is_deep:
            self._require_convert(path, "has 16 bits per channel", "8 of them")
        self._add_orientation(image, kinds)
        image.load()
        if self.upright:
            image = ImageOps.exif_transpose(image)
        info, alpha = cast("Mapping[str, Any]", image.info), None
        if image.mode in ALPHA or "transparency" in image.info:
            is_gray = image.mode in ("LA", "La", "L", "1")
            image = image.convert("RGBA")
            alpha = image.getchannel("A")
            image = image.convert("L" if is_gray else "RGB")
        elif image.mode == "I" and image.format == "PPM":  # Pillow scales its levels to 16 bits
            image = Image.fromarray(np.asarray(image).astype(np.uint16))
        elif image.mode in ("I", "F"):
            raise ValueError("it has 32 bits per pixel and no defined white level")
        elif image.mode not in ("1", "L", "P", "RGB") and not image.mode.startswith("I;16"):
            self._require_convert(path, f"is in {image.mode} colors", "Pillow's conversion to RGB")
        if is_deep:
            image = self._eight_bits(image, kinds)
        image = self._colored(image.convert("RGB") if image.mode == "P" else image, info, kinds)
        if self.channels == 4:
            image = image.convert("RGB")
            image.putalpha(alpha or 255)
            return image
        if alpha and alpha.getextrema() != (255, 255):
            self._require_convert(path, "has transparent parts", "them composited on white")
            kinds.append("transparent")
            image = image.convert("RGB")
            image.putalpha(alpha)
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        if image.mode not in ("1", "L"):
            image = image.convert("RGB")  # before the conversion to grayscale
        return image.convert("L" if self.channels == 1 else "RGB")

    def add_header(self, path: Path) -> None:
        """Counts the orientation and the color profile of a file, without decoding it."""
        kinds: list[str] = []
        try:
            if path.is_file():
                with open_image(path) as image:
                    self._add_orientation(image, kinds)
                    if image.mode in ("L", "P", "RGB"):
                        mode = "L" if image.mode == "L" else "RGB"
                        self._conversion(mode, cast("Mapping[str, Any]", image.info), kinds)
        except Exception:  # Pillow raises almost anything, and again when it decodes the file
            return
        self.notes.add(kinds, path)

    def _add_orientation(self, image: Image.Image, kinds: list[str]) -> None:
        if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
            applied = self.upright or image.format == "TIFF"
            kinds.append("orientation" if applied else "orientation ignored")

    def _require_convert(self, path: Path, what: str, how: str) -> None:
        if not self.convert:
            raise AmbiguousImage(path, what, how)

    def _eight_bits(self, image: Image.Image, kinds: list[str]) -> Image.Image:
        """Scales 16-bit gray levels; Pillow has dropped the lower 8 bits of colors."""
        if not image.mode.startswith("I;16"):
            if self.bits != DEEP_BITS:
                raise ValueError(f"data.bits={self.bits} is for gray images, and it has colors")
            most = int(np.max(image.getextrema()))
            kinds.append(pixel_notes.deep("color", most.bit_length() + 8, DEEP_BITS))
            return image
        levels = np.asarray(image)
        most = int(levels.max())
        if most >= 2**self.bits:
            raise ValueError(f"it has the level {most}, above {2**self.bits - 1} (data.bits)")
        kinds.append(pixel_notes.deep("gray", most.bit_length(), self.bits))
        scaled = np.rint(np.arange(2**self.bits) * (255 / (2**self.bits - 1)))
        return Image.fromarray(scaled.astype(np.uint8)[levels])

    def _colored(
        self, image: Image.Image, info: Mapping[str, Any], kinds: list[str]
    ) -> Image.Image:
        """Converts to sRGB if the file has a color profile or gamma, and if `srgb` is set."""
        convert = None if image.mode == "1" else self._conversion(image.mode, info, kinds)
        if convert:
            return convert(image)
        if image.mode not in ("1", "L", "RGB"):
            kinds.append("space")
        return image

    def _conversion(
        self, mode: str, info: Mapping[str, Any], kinds: list[str]
    ) -> Conversion | None:
        """Returns the conversion to sRGB if there is one and `srgb` is set."""
        try:
            convert = conversion_to_srgb(mode, info)
        except ValueError:
            kinds.append("profile unreadable")
            return None
        if convert:
            kinds.append("colors" if self.srgb else "colors ignored")
        return convert if self.srgb else None


def _is_deep(image: Image.Image) -> bool:
    """True if channels have more than 8 bits; Pillow silently drops the lower ones of RGB."""
    if image.mode.startswith("I;16"):
        return True
    for codec, _, _, arguments in getattr(image, "tile", ()):
        if ";16" in str(arguments) or (codec == "ppm" and arguments[1] > 255):
            return True
    return False
