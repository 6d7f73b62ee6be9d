"""Captions of grids."""

import numpy as np
import pytest
from PIL import ImageFont

from diffusion_jax import images
from diffusion_jax.pictures import captions

IMAGES = np.arange(1, 13, dtype=np.uint8).repeat(64).reshape(12, 8, 8, 1)


def pixels_of(picture):
    """Returns the position of the first pixel of each of IMAGES in a picture, by value."""
    places = {}
    for value in range(1, 13):
        rows, columns = np.nonzero(picture[..., 0] == value)
        if len(rows) == 64:
            places[value] = (rows.min(), columns.min())
    return places


def test_rows_with_equal_captions_have_one_caption_at_the_left():
    texts = [name for name in ("a", "b", "c", "a") for _ in range(3)]
    picture = captions.captioned_grid(IMAGES, texts, 3)
    bare = images.grid(IMAGES, 3)
    margin = picture.shape[1] - bare.shape[1]
    assert margin > 8
    assert np.array_equal(picture[:, margin:], bare)
    assert np.array_equal(picture, captions.captioned(bare, ["a", "b", "c", "a"]))


def test_columns_with_equal_captions_have_one_caption_above():
    picture = captions.captioned_grid(IMAGES, ["1", "2", "3"] * 4, 3)
    bare = images.grid(IMAGES, 3)
    head = len(picture) - len(bare)
    assert picture.shape[1] == bare.shape[1]  # a digit fits into eight pixels
    assert np.array_equal(picture[head:], bare)
    for column in range(3):
        assert picture[:head, 1 + 9 * column :][:, :8].max() > 100


@pytest.mark.parametrize("columns", [4, 5])
def test_different_captions_are_below_their_images(columns):
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


def test_narrow_images_get_black_bars_for_their_captions():
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


def test_captions_of_color_images_are_white():
    color = np.zeros((2, 16, 16, 3), np.uint8) + np.array([200, 0, 0], np.uint8)
    picture = captions.captioned_grid(color, ["ab", "cd"], 2)
    text = picture[:-17]
    assert text.shape[-1] == 3
    assert text.max() > 100
    assert np.array_equal(text[..., 0], text[..., 1])
