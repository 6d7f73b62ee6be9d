"""Fonts that have the letters of a text: Pillow's own, DejaVu Sans, or one of the system's.

Pillow's font has little more than ASCII. Matplotlib brings DejaVu Sans: Latin with accents, Greek,
Cyrillic, Hebrew and Arabic. Fonts for other scripts have to be installed on the system.
"""

import unicodedata
from functools import lru_cache
from pathlib import Path

from anyascii import anyascii
from PIL import ImageFont
from PIL.ImageFont import FreeTypeFont

ELLIPSIS = "…"  # a caption may be cut, so a font has to have it
# Fonts whose glyph for every letter is a box or a blank.
NO_LETTERS = ("lastresort", "adobeblank")
# Other styles of a font come after its regular one.
STYLES = ("bold", "italic", "oblique", "mono", "serif", "condensed", "light", "thin", "black")


def drawable(text: str, fallback: str) -> str:
    """The text if there is a font with all of its letters, otherwise its transliteration.

    The fallback stands for a text of which nothing would be left.
    """
    shown = (letter for letter in text if unicodedata.category(letter)[0] != "C" or letter == "\t")
    text = " ".join("".join(shown).split())
    if not text.isascii() and _file_for(frozenset(text + ELLIPSIS)) is None:
        text = to_ascii(text)
    return text or fallback


def to_ascii(text: str) -> str:
    """The text in ASCII: without accents, and other scripts transliterated."""
    # Whole letters first: transliterated by itself, an accent could leave a mark of its own.
    letters = anyascii(unicodedata.normalize("NFC", text))
    return " ".join("".join(letter for letter in letters if letter.isprintable()).split())


def font_for(text: str, size: int) -> FreeTypeFont:
    """A font with the letters of a `drawable` text, and with an ellipsis."""
    letters = frozenset(text + ELLIPSIS)
    file = None if "".join(letters - {ELLIPSIS}).isascii() else _file_for(letters)
    return ImageFont.load_default(size) if file is None else ImageFont.truetype(file, size)


@lru_cache
def _file_for(letters: frozenset[str]) -> Path | None:
    """The first font file that has all of the letters."""
    wanted = {ord(letter) for letter in letters}
    for file in files():
        if wanted <= _letters(file) and _opens(file):
            return file
    return None


@lru_cache
def files() -> list[Path]:
    """DejaVu Sans, then the fonts of the system, the regular style of each first."""
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
    """The code points that a font has glyphs for."""
    from matplotlib.ft2font import FT2Font

    try:
        return frozenset(FT2Font(str(file)).get_charmap())
    except (OSError, RuntimeError):  # no font, or a damaged one
        return frozenset()


def _opens(file: Path) -> bool:
    """Whether Pillow can draw with it; it cannot with bitmaps of another size, such as emoji."""
    try:
        ImageFont.truetype(file, 12)
    except OSError:
        return False
    return True
