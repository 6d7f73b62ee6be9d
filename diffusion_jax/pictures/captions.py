"""Grids of images with captions below each image, or once for each row or column."""

import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import cast

import numpy as np
from anyascii import anyascii
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont
from PIL.ImageFont import FreeTypeFont

from diffusion_jax.images import Picture, Uint8Images, grid

WIDEST = 88  # pixels, of a narrow image's cell that is widened for its caption
LONGEST = 240  # pixels, of a caption to the left of a row
BLANK = 2  # pixels, between neighboring captions


def captioned_grid(
    images: Uint8Images, captions: Sequence[str], columns: int, *, upscale: int = 1
) -> UInt8[np.ndarray, "rows columns channels"]:
    """Returns the grid of `images.grid` with a caption for each image.

    Captions that are equal within each row appear once, left of the row. Captions that are equal
    within each column appear once, above the column. Other captions appear below each image,
    shortened to its width; images narrower than `WIDEST` get black bars at their sides if needed.
    Without captions the result is the bare grid. All captions must be `drawable`.
    """
    if not captions:
        return grid(images, columns, upscale=upscale)
    assert len(captions) == len(images)
    rows = [captions[first : first + columns] for first in range(0, len(captions), columns)]
    if all(len(set(row)) == 1 for row in rows):
        return captioned(grid(images, columns, upscale=upscale), [row[0] for row in rows])
    images = images.repeat(upscale, axis=1).repeat(upscale, axis=2)
    size = _font_size(images.shape[1])
    longest = max(_width(text, size) for text in captions)
    images = _widened(images, min(longest + BLANK, WIDEST))
    if all(row == rows[0][: len(row)] for row in rows):
        heads = _strips(rows[0], size, images)
        head = grid(heads, columns)[:-1]  # the grid of the images has a line at its top
        return np.concatenate([head, grid(images, columns)])
    return grid(np.concatenate([images, _strips(captions, size, images)], axis=1), columns)


def captioned(
    picture: Picture, captions: Sequence[str]
) -> UInt8[np.ndarray, "height wider channels"]:
    """Adds a vertically centered caption to the left of each row of a grid."""
    height = picture.shape[0] / len(captions)
    size = int(np.clip(height * 0.4, 9, 20))
    captions = [shortened(caption, LONGEST, size) for caption in captions]
    margin = 8 + max(_width(caption, size) for caption in captions)
    text = Image.new("L", (margin, picture.shape[0]))
    draw = ImageDraw.Draw(text)
    for row, caption in enumerate(captions):
        place = (margin / 2, (row + 0.5) * height)
        draw.text(place, caption, fill="white", font=font_for(caption, size), anchor="mm")
    left = np.asarray(text)[..., None].repeat(picture.shape[-1], axis=2)
    return np.concatenate([left, picture], axis=1)


def shortened(text: str, width: int, size: int) -> str:
    """Returns the text if it fits into `width` pixels, or its part before a comma, or a prefix.

    A prefix ends with an ellipsis.
    """
    for whole in (text, text.partition(",")[0]):
        if _width(whole, size) <= width:
            return whole
    for length in range(len(text) - 1, 0, -1):
        cut = text[:length].rstrip(" ,") + ELLIPSIS
        if _width(cut, size) <= width:
            return cut
    return ""


def _font_size(height: int) -> int:
    """Returns the font size of captions below images of this height."""
    return int(np.clip(height / 8, 10, 16))


def _width(text: str, size: int) -> int:
    return int(np.ceil(font_for(text, size).getlength(text)))


def _widened(images: Uint8Images, width: int) -> UInt8[np.ndarray, "batch height wider channels"]:
    """Returns the images between black bars if they are narrower than `width`."""
    missing = max(0, width - images.shape[2])
    return np.pad(images, ((0, 0), (0, 0), (missing // 2, missing - missing // 2), (0, 0)))


def _strips(
    captions: Sequence[str], size: int, images: Uint8Images
) -> UInt8[np.ndarray, "texts lower width channels"]:
    """Returns a picture of each caption, with the width and the channels of the images."""
    width, channels = images.shape[2:]
    height = size + 4
    strips = {}
    for caption in set(captions):
        strip = Image.new("L", (width, height))
        text = shortened(caption, width, size)
        place = (width / 2, height / 2)
        ImageDraw.Draw(strip).text(
            place, text, fill="white", font=font_for(text, size), anchor="mm"
        )
        strips[caption] = np.asarray(strip)[..., None].repeat(channels, axis=2)
    return np.stack([strips[caption] for caption in captions])


ELLIPSIS = "…"  # required of all fonts, because captions may be shortened
# Fonts whose glyphs are boxes or blanks.
NO_LETTERS = ("lastresort", "adobeblank")
# Styles that come after the regular one.
STYLES = ("bold", "italic", "oblique", "mono", "serif", "condensed", "light", "thin", "black")


def drawable(text: str, default: str) -> str:
    """Returns the text if a font has all its letters, otherwise its transliteration.

    default: returned if nothing of the text is left.
    """
    kept = (letter for letter in text if unicodedata.category(letter)[0] != "C" or letter == "\t")
    text = " ".join("".join(kept).split())
    if not text.isascii() and _file_for(frozenset(text + ELLIPSIS)) is None:
        text = to_ascii(text)
    return text or default


def to_ascii(text: str) -> str:
    """Returns the text in ASCII, without accents and with other scripts transliterated."""
    # Composed letters: a separate accent could be transliterated to a character of its own.
    letters = anyascii(unicodedata.normalize("NFC", text))
    return " ".join("".join(letter for letter in letters if letter.isprintable()).split())


def font_for(text: str, size: int) -> FreeTypeFont:
    """Returns a font with the letters of a `drawable` text and the ellipsis."""
    letters = frozenset(text + ELLIPSIS)
    file = None if "".join(letters - {ELLIPSIS}).isascii() else _file_for(letters)
    if file is None:
        return cast(ImageFont.FreeTypeFont, ImageFont.load_default(size))
    return ImageFont.truetype(file, size)


@lru_cache
def _file_for(letters: frozenset[str]) -> Path | None:
    """Returns the first font file with all letters, or None."""
    wanted = {ord(letter) for letter in letters}
    for file in files():
        if wanted <= _letters(file) and _opens(file):
            return file
    return None


@lru_cache
def files() -> list[Path]:
    """Returns DejaVu Sans and the system fonts, regular styles first."""
    import matplotlib
    from matplotlib import font_manager

    system = {Path(path) for path in font_manager.findSystemFonts()}
    usable = [path for path in system if not path.stem.lower().startswith(NO_LETTERS)]

    def order(path: Path) -> tuple[bool, str]:
        return any(style in path.stem.lower() for style in STYLES), str(path)

    bundled = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    return [bundled, *sorted(usable, key=order)]


@lru_cache
def _letters(file: Path) -> frozenset[int]:
    """Returns the code points with a glyph."""
    from matplotlib.ft2font import FT2Font

    try:
        return frozenset(FT2Font(str(file)).get_charmap())
    except (OSError, RuntimeError):  # not a font, or damaged
        return frozenset()


def _opens(file: Path) -> bool:
    """True if Pillow can use the font; it cannot scale bitmap fonts, such as emoji."""
    try:
        ImageFont.truetype(file, 12)
    except OSError:
        return False
    return True
