"""Fonts of captions."""

import unicodedata

import pytest
from matplotlib.ft2font import FT2Font
from PIL import ImageFont

from diffusion_jax.pictures import captions


@pytest.fixture
def no_system_fonts(monkeypatch):
    """Leaves the fonts of the requirements: Pillow's font and DejaVu Sans."""
    from matplotlib import font_manager

    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: [])
    for cached in (captions.files, captions._file_for):
        cached.cache_clear()
    yield
    for cached in (captions.files, captions._file_for):
        cached.cache_clear()


def letters_of(font):
    """Returns the code points with a glyph in a Pillow font."""
    font.path.seek(0) if hasattr(font.path, "seek") else None
    return set(FT2Font(font.path if hasattr(font.path, "read") else str(font.path)).get_charmap())


def test_pillows_font_has_ascii_and_the_ellipsis():
    ascii_letters = {letter for letter in range(128) if chr(letter).isprintable()}
    assert ascii_letters | {ord(captions.ELLIPSIS)} <= letters_of(ImageFont.load_default(10))


@pytest.mark.parametrize(
    "text", ["golden retriever", "größerer Łoś", "Большая панда", "γάτα", "קטן"]
)
def test_the_font_has_the_letters_of_the_text(text, no_system_fonts):
    assert captions.drawable(text, "7") == text
    assert {ord(letter) for letter in text} <= letters_of(captions.font_for(text, 12))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("大熊猫", "DaXiongMao"),
        ("ガ", "ga"),
        ("大熊猫 (panda)", "DaXiongMao (panda)"),
        ("\tbig\u200b \n panda\x07", "big panda"),
        ("", "7"),
    ],
)
def test_letters_without_a_font_are_transliterated(text, shown, no_system_fonts):
    assert captions.drawable(text, "7") == shown


def test_system_fonts_are_used_if_they_have_the_letters(monkeypatch, no_system_fonts):
    """Any font file with the letters is accepted."""
    file = captions.files()[0]
    other = file.with_name("DejaVuSerif.ttf")
    last_resort = file.with_name("LastResortHE-Regular.ttf")  # boxes for all letters there are
    from matplotlib import font_manager

    monkeypatch.setattr(
        font_manager, "findSystemFonts", lambda: [str(last_resort), str(other), "/nowhere.ttf"]
    )
    captions.files.cache_clear()
    assert [path.name for path in captions.files()[1:]] == ["nowhere.ttf", "DejaVuSerif.ttf"]
    only = chr(min(captions._letters(other) - captions._letters(file)))
    assert captions.font_for(only, 12).path == other
    assert captions.drawable("大", "7") == "Da"


def test_to_ascii_removes_accents_and_transliterates():
    assert captions.to_ascii("Münsterländer  ﬁn") == "Munsterlander fin"
    assert captions.to_ascii(unicodedata.normalize("NFD", "Čeština")) == "Cestina"
    assert captions.to_ascii("Привет, ὀδός") == "Privet, odos"
