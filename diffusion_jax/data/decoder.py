"""Decoding of image files to 8-bit grayscale or RGB, without ambiguous conversions."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from diffusion_jax.data import pixel_limits

ALPHA = ("LA", "PA", "RGBA", "La", "RGBa")
# Pillow decodes EPS with Ghostscript, which executes PostScript programs.
NOT_OPENED = {"EPS"}
# Pillow warns of damage, in two lines each, and goes on.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
_EIGHT_BITS = np.rint(np.arange(2**16) / 257).astype(np.uint8)


def formats() -> list[str]:
    """The supported file formats, by their names in Pillow."""
    Image.init()
    return [name for name in Image.OPEN if name not in NOT_OPENED]


class Unusable(ValueError):
    """An intact image whose conversion is ambiguous; the message says which option to set."""

    def __init__(self, path: Path, what: str, how: str):
        super().__init__(f"{path} {what}; set data.convert=True to take {how}")


@dataclass(frozen=True)
class Decoder:
    """Decodes image files to a fixed number of channels: 1 is grayscale, 3 is RGB.

    Grayscale and RGB are converted into each other (ITU-R 601 luma), palettes are expanded.
    Ambiguous images are refused unless `convert` is set: then transparency is composited on white,
    CMYK and other color spaces are converted to RGB without a color profile, 16-bit values are
    scaled so that 65535 becomes 255, and the first frame of an animation is used. upright: rotates
    images according to their EXIF orientation; otherwise the orientation is ignored, as the usual
    pipelines do, and files that have one are collected in `turned`. then: what is made of each
    image, such as a crop.
    """

    channels: int
    convert: bool = False
    upright: bool = False
    turned: list[Path] = field(default_factory=list)
    then: Callable[[Image.Image], Image.Image] | None = None

    def __call__(self, path: Path) -> Image.Image:
        """Decodes one file. Raises ValueError, which names the file, if it cannot be used.

        The size is known from the file's header. Images with more than `large.MOST_PIXELS` are
        refused, and of several threads with large ones, one decodes (and crops) at a time.
        """
        if not path.is_file():
            raise ValueError(f"{path} is not a file, or is a broken link")
        try:
            with Image.open(path, formats=formats()) as image:
                pixel_limits.check_pixels(*image.size)
                with pixel_limits.turn(*image.size):
                    plain = self._plain(image, path)
                    return self.then(plain) if self.then else plain
        except Unusable:
            raise
        except pixel_limits.TooLarge as error:
            raise ValueError(f"{path} {error}") from None
        except Image.DecompressionBombError:
            raise ValueError(
                f"{path} has far more than the {pixel_limits.MOST_PIXELS:,} pixels that are read "
                "at most. Make it smaller, or leave it out"
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
        if getattr(image, "n_frames", 1) > 1 and image.format != "MPO" and not self.convert:
            raise Unusable(path, f"has {image.n_frames} frames", "the first")
        if _is_deep(image) and not self.convert:
            raise Unusable(path, "has 16 bits per channel", "8 of them")
        if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
            self.turned.append(path)
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
            raise Unusable(path, f"is in {image.mode} colors", "Pillow's conversion to RGB")
        if image.mode not in ("1", "L"):
            image = image.convert("RGB")  # palettes too, before the conversion to grayscale
        return image.convert("L" if self.channels == 1 else "RGB")

    def _opaque(self, image: Image.Image, path: Path) -> Image.Image:
        if image.getextrema()[3][0] < 255:
            if not self.convert:
                raise Unusable(path, "has transparent parts", "them composited on white")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        return image.convert("RGB")


def _is_deep(image: Image.Image) -> bool:
    """Whether channels have more than 8 bits; for RGB, Pillow silently drops the lower ones."""
    if image.mode.startswith("I;16"):
        return True
    for codec, _, _, arguments in image.tile:
        if ";16" in str(arguments) or (codec == "ppm" and arguments[1] > 255):
            return True
    return False
