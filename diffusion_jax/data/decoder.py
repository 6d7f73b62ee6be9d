"""From image files to 8-bit grey or RGB images, without guessing what they mean."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

ALPHA = ("LA", "PA", "RGBA", "La", "RGBa")
# Pillow hands EPS to Ghostscript, which runs programs.
NOT_OPENED = {"EPS"}


def formats() -> list[str]:
    """The file formats that are read, by Pillow's names."""
    Image.init()
    return [name for name in Image.OPEN if name not in NOT_OPENED]


class Unusable(ValueError):
    """An image that is whole, but has no single right reading; the text says what to set."""

    def __init__(self, path: Path, what: str, how: str):
        super().__init__(f"{path} {what}; set data.convert=True to take {how}")


@dataclass(frozen=True)
class Decoder:
    """Reads files as images of one number of channels: 1 is grey, 3 is RGB.

    Grey becomes RGB and RGB grey (ITU-R 601 luma); palettes become the colours they stand for.
    What has no single right reading is refused, unless convert: transparency is laid on white, CMYK
    and other colours become RGB without a colour profile, 65535 of 16 bits is 255, and animations
    are their first picture. upright: turns images as their EXIF entry says; otherwise it is
    ignored, as the usual crops do, and the images that have one are in `turned`.
    """

    channels: int
    convert: bool = False
    upright: bool = False
    turned: list[Path] = field(default_factory=list)

    def __call__(self, path: Path) -> Image.Image:
        """Raises ValueError that names the file if it is none that can be used."""
        if not path.is_file():
            raise ValueError(f"{path} is no file, or a link to none")
        try:
            with Image.open(path, formats=formats()) as image:
                return self._plain(image, path)
        except Unusable:
            raise
        except UnidentifiedImageError:
            raise ValueError(f"{path} cannot be read as an image: its format is unknown") from None
        except Exception as error:  # Pillow's decoders raise whatever they like
            reason = str(error) or type(error).__name__
            raise ValueError(f"{path} cannot be read as an image: {reason}") from None

    def _plain(self, image: Image.Image, path: Path) -> Image.Image:
        # What cameras write as MPO is one picture, with previews of it.
        if getattr(image, "n_frames", 1) > 1 and image.format != "MPO" and not self.convert:
            raise Unusable(path, f"has {image.n_frames} pictures", "the first")
        if _is_deep(image) and not self.convert:
            raise Unusable(path, "has 16 bits a channel", "8 of them")
        if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
            self.turned.append(path)
        image.load()
        if self.upright:
            image = ImageOps.exif_transpose(image)
        if image.mode in ALPHA or "transparency" in image.info:
            image = self._opaque(image.convert("RGBA"), path)
        elif image.mode.startswith("I;16"):
            levels = np.rint(np.asarray(image, np.float64) / 257).astype(np.uint8)
            image = Image.fromarray(levels)
        elif image.mode in ("I", "F"):
            raise ValueError("it has 32 bits a pixel, of which nothing says what is white")
        elif image.mode not in ("1", "L", "P", "RGB") and not self.convert:
            raise Unusable(path, f"is in {image.mode} colours", "Pillow's conversion to RGB")
        if image.mode not in ("1", "L"):
            image = image.convert("RGB")  # palettes too, before they become grey
        return image.convert("L" if self.channels == 1 else "RGB")

    def _opaque(self, image: Image.Image, path: Path) -> Image.Image:
        if image.getextrema()[3][0] < 255:
            if not self.convert:
                raise Unusable(path, "has transparent parts", "them laid on white")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        return image.convert("RGB")


def _is_deep(image: Image.Image) -> bool:
    """Whether a channel has more than 8 bits, which Pillow drops by itself where it is RGB."""
    if image.mode.startswith("I;16"):
        return True
    for codec, _, _, arguments in image.tile:
        if ";16" in str(arguments) or (codec == "ppm" and arguments[1] > 255):
            return True
    return False
