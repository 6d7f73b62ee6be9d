"""Captions, their fonts, and labels by name."""

import unicodedata

import numpy as np
import pytest
from matplotlib.ft2font import FT2Font
from PIL import Image, ImageFont

from diffusion_jax import images
from diffusion_jax.generation import class_labels
from diffusion_jax.pictures import captions, films, fonts

NAMES = ["tench, Tinca tinca", "crane", "Crane", "crane, machine", "maillot", "maillot, tank suit"]
IMAGES = np.arange(1, 13, dtype=np.uint8).repeat(64).reshape(12, 8, 8, 1)


@pytest.fixture
def no_system_fonts(monkeypatch):
    """Only what is installed with the requirements: Pillow's font and DejaVu Sans."""
    from matplotlib import font_manager

    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: [])
    for cached in (fonts.files, fonts._file_for):
        cached.cache_clear()
    yield
    for cached in (fonts.files, fonts._file_for):
        cached.cache_clear()


def letters_of(font):
    """The code points that a font of Pillow's has glyphs for."""
    font.path.seek(0) if hasattr(font.path, "seek") else None
    return set(FT2Font(font.path if hasattr(font.path, "read") else str(font.path)).get_charmap())


def test_pillows_own_font_has_what_it_is_used_for():
    ascii_letters = {letter for letter in range(128) if chr(letter).isprintable()}
    assert ascii_letters | {ord(fonts.ELLIPSIS)} <= letters_of(ImageFont.load_default(10))


@pytest.mark.parametrize(
    "text", ["golden retriever", "größerer Łoś", "Большая панда", "γάτα", "קטן"]
)
def test_a_font_is_found_that_has_the_letters(text, no_system_fonts):
    assert fonts.drawable(text, "7") == text
    assert {ord(letter) for letter in text} <= letters_of(fonts.font_for(text, 12))


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
def test_letters_that_no_font_has_are_transliterated(text, shown, no_system_fonts):
    assert fonts.drawable(text, "7") == shown


def test_a_font_of_the_system_is_used_if_it_has_the_letters(monkeypatch, no_system_fonts):
    """Any file will do: whether it has the letters is what counts."""
    file = fonts.files()[0]
    other = file.with_name("DejaVuSerif.ttf")
    last_resort = file.with_name("LastResortHE-Regular.ttf")  # boxes for all letters there are
    from matplotlib import font_manager

    monkeypatch.setattr(
        font_manager, "findSystemFonts", lambda: [str(last_resort), str(other), "/nowhere.ttf"]
    )
    fonts.files.cache_clear()
    assert [path.name for path in fonts.files()[1:]] == ["nowhere.ttf", "DejaVuSerif.ttf"]
    only = chr(min(fonts._letters(other) - fonts._letters(file)))
    assert fonts.font_for(only, 12).path == other
    assert fonts.drawable("大", "7") == "Da"


def test_names_in_ascii():
    assert fonts.to_ascii("Münsterländer  ﬁn") == "Munsterlander fin"
    assert fonts.to_ascii(unicodedata.normalize("NFD", "Čeština")) == "Cestina"
    assert fonts.to_ascii("Привет, ὀδός") == "Privet, odos"


def pixels_of(picture):
    """The values of IMAGES in a picture, by the place of each image's first pixel."""
    places = {}
    for value in range(1, 13):
        rows, columns = np.nonzero(picture[..., 0] == value)
        if len(rows) == 64:
            places[value] = (rows.min(), columns.min())
    return places


def test_rows_of_one_class_are_captioned_once_at_their_left():
    texts = [name for name in ("a", "b", "c", "a") for _ in range(3)]
    picture = captions.captioned_grid(IMAGES, texts, 3)
    bare = images.grid(IMAGES, 3)
    margin = picture.shape[1] - bare.shape[1]
    assert margin > 8
    assert np.array_equal(picture[:, margin:], bare)
    assert np.array_equal(picture, captions.captioned(bare, ["a", "b", "c", "a"]))


def test_columns_of_one_class_are_captioned_once_above():
    picture = captions.captioned_grid(IMAGES, ["1", "2", "3"] * 4, 3)
    bare = images.grid(IMAGES, 3)
    head = len(picture) - len(bare)
    assert picture.shape[1] == bare.shape[1]  # a digit fits into eight pixels
    assert np.array_equal(picture[head:], bare)
    for column in range(3):
        assert picture[:head, 1 + 9 * column :][:, :8].max() > 100


@pytest.mark.parametrize("columns", [4, 5])
def test_other_images_are_captioned_one_by_one(columns):
    texts = [*"abcd", *"abcd", *"abce"]
    picture = captions.captioned_grid(np.maximum(IMAGES, 1), texts, columns)
    rows = -(-12 // columns)
    height = (len(picture) - 1) // rows
    for index in range(12):
        row, column = divmod(index, columns)
        cell = picture[1 + row * height :][: height - 1, 1 + column * 9 :][:, :8, 0]
        assert (cell[:8] == index + 1).all()
        assert cell[8:].max() > 100  # the caption
    assert np.array_equal(captions.captioned_grid(IMAGES, [], 4), images.grid(IMAGES, 4))


def test_narrow_images_are_framed_for_their_captions():
    picture = captions.captioned_grid(IMAGES[:2], ["golden retriever", "x"], 2)
    assert picture.shape[1] <= 2 * (captions.WIDEST + 1) + 1
    assert picture.shape[1] > 2 * 60
    assert len(pixels_of(picture[-9:])) == 2
    longer = captions.captioned_grid(IMAGES[:2], ["golden retriever" * 9, "x"], 2)
    assert longer.shape[1] == 2 * (captions.WIDEST + 1) + 1


def test_long_captions_are_shortened():
    assert captions.shortened("tench, Tinca tinca", 1000, 10) == "tench, Tinca tinca"
    assert captions.shortened("tench, Tinca tinca", 50, 10) == "tench"
    cut = captions.shortened("golden retriever", 50, 10)
    assert cut.endswith("…")
    assert "golden retriever".startswith(cut[:-1])
    width = ImageFont.load_default(10).getlength
    assert width(cut) <= 50 < width("golden retriever"[: len(cut)] + "…")
    assert captions.shortened("golden retriever", 1, 10) == ""


def test_captions_are_drawn_in_color_pictures_too():
    color = np.zeros((2, 16, 16, 3), np.uint8) + np.array([200, 0, 0], np.uint8)
    picture = captions.captioned_grid(color, ["ab", "cd"], 2)
    text = picture[:-17]
    assert text.shape[-1] == 3
    assert text.max() > 100
    assert np.array_equal(text[..., 0], text[..., 1])


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("tench, Tinca tinca,3", [0, 3]),
        ("3,TENCH ,  tinca   TINCA", [3, 0]),
        ("tench,tench", [0, 0]),
        ("crane", [1]),
        ("Crane", [2]),
        ("crane, machine,Maillot, Tank Suit,maillot,0", [3, 5, 4, 0]),
        ("Maillot,5", [4, 5]),
    ],
)
def test_names_with_commas_and_in_any_case(text, wanted):
    assert class_labels.parse_list(text, 6, NAMES) == wanted


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("CRANE", "'CRANE' is the name of several classes; give a number of 1, 2"),
        ("tensh", "Unknown label 'tensh'; did you mean 'tench, Tinca tinca'"),
        ("tench,tank suite", "Unknown label 'tank suite'"),
        ("9", "Unknown label '9'; known: 0 to 5, or names such as tench"),
        ("0,,1", "Unknown label ''"),
        ("crane,-1", "Unknown label '-1'"),
    ],
)
def test_wrong_names_get_the_nearest(text, message):
    with pytest.raises(ValueError, match=message):
        class_labels.parse_list(text, 6, NAMES)


def test_what_is_said_of_the_labels():
    drawn = np.array([1, 6, 1], np.int32)
    assert class_labels.captions(drawn, 6, NAMES) == ["crane", "none", "crane"]
    assert class_labels.captions(drawn, 6, []) == ["1", "none", "1"]
    assert class_labels.captions(np.array([6, 6]), 6, NAMES) == []
    assert class_labels.captions(np.array([0, 0]), 0, []) == []
    about = {"count": 3, "labels": [1, 6, 1], "names": {"1": "crane", "6": "none"}}
    assert class_labels.described(drawn, 6, NAMES) == about
    assert class_labels.described(np.zeros(3, np.int32), 0, []) == {"count": 3}


def test_names_of_files():
    def name(text):
        return class_labels.file_name(12, 207, text)

    assert name("golden retriever") == "000012_label207_golden_retriever.png"
    assert name("tench, Tinca/../tinca ") == "000012_label207_tench_Tinca_tinca.png"
    assert name("Größe") == "000012_label207_Grosse.png"
    assert name("大熊猫") == "000012_label207_DaXiongMao.png"
    assert name("") == name("207") == "000012_label207.png"
    assert len(name("x" * 300)) < 90


def frames_of(path):
    """[(milliseconds, RGB pixels)] of an animation."""
    shown = []
    with Image.open(path) as read:
        for frame in range(read.n_frames):
            read.seek(frame)
            read.load()
            shown.append((read.info["duration"], np.asarray(read.convert("RGB"))))
    return shown


@pytest.mark.parametrize("still", [0, 2])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", ["gif", "webp"])
def test_an_animation_ends_with_the_images_and_holds_them(kind, channels, still, tmp_path):
    """Also if nothing moves at the end: Pillow makes equal frames one, which lasts as long."""
    rng = np.random.default_rng(0)
    few = rng.integers(256, size=(200, channels), dtype=np.uint8)  # a GIF has 256 colors
    pictures = [few[rng.integers(200, size=(20, 30))] for _ in range(4)]
    pictures += [pictures[-1]] * still
    save = {"gif": images.save_gif, "webp": images.save_webp}[kind]
    save(tmp_path / "film", pictures)
    shown = frames_of(tmp_path / "film")
    assert [milliseconds for milliseconds, _ in shown] == [60, 60, 60, 2000 + 60 * still]
    for (_, pixels), picture in zip(shown, pictures):
        if channels == 1 or kind == "webp":
            assert np.array_equal(pixels, np.broadcast_to(picture, pixels.shape))
        assert np.abs(pixels.astype(int) - picture).mean() < 16


def test_a_strip_has_a_row_for_each_image_and_a_column_for_each_time():
    film = np.arange(1, 25, dtype=np.uint8).repeat(6).reshape(3, 8, 2, 3, 1)
    strip = films.strip(film, [], 4)
    by_hand = np.zeros((3 * 3 + 1, 4 * 4 + 1, 1), np.uint8)
    for row in range(3):
        for column, frame in enumerate((1, 3, 5, 7)):
            by_hand[1 + 3 * row :, 1 + 4 * column :][:2, :3] = film[row, frame]
    assert np.array_equal(strip, by_hand)
    assert np.array_equal(films.strip(film, [], 100), films.strip(film, [], 8))
    named = films.strip(film, ["a", "b", "c"], 4)
    assert np.array_equal(named, captions.captioned(by_hand, ["a", "b", "c"]))


def test_frames_of_an_animation_are_grids():
    film = np.arange(1, 25, dtype=np.uint8).repeat(6).reshape(3, 8, 2, 3, 1)
    shown = films.animation(film, ["a", "b", "c"], 2, upscale=2)
    assert len(shown) == 8
    wanted = captions.captioned_grid(film[:, 5], ["a", "b", "c"], 2, upscale=2)
    assert np.array_equal(shown[5], wanted)
