"""Font selection by the letters of a text: Pillow's font, DejaVu Sans, or a system font.

Pillow's font covers little more than ASCII. DejaVu Sans, which is part of Matplotlib, covers Latin
with accents, Greek, Cyrillic, Hebrew and Arabic. Other scripts need fonts installed on the system.
"""

import unicodedata
from functools import lru_cache
from pathlib import Path
from typing import cast

from anyascii import anyascii
from PIL import ImageFont
from PIL.ImageFont import FreeTypeFont

ELLIPSIS = "…"  # required of all fonts, because captions may be shortened
# Fonts whose glyphs are boxes or blanks.
NO_LETTERS = ("lastresort", "adobeblank")
# Styles that come after the regular one.
STYLES = ("bold", "italic", "oblique", "mono", "serif", "condensed", "light", "thin", "black")


def drawable(text: str, fallback: str) -> str:
    """Returns the text if a font has all its letters, otherwise its transliteration.

    fallback: returned if nothing of the text is left.
    """
    shown = (letter for letter in text if unicodedata.category(letter)[0] != "C" or letter == "\t")
    text = " ".join("".join(shown).split())
    if not text.isascii() and _file_for(frozenset(text + ELLIPSIS)) is None:
        text = to_ascii(text)
    return text or fallback


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
    """Returns True if Pillow can use the font; it cannot scale bitmap fonts, such as emoji."""
    try:
        ImageFont.truetype(file, 12)
    except OSError:
        return False
    return True
