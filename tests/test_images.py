import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from diffusion_jax import images
from diffusion_jax.pictures import captions


def test_uint8_round_trips_through_floats():
    levels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    floats = images.normalize(jnp.asarray(levels))
    assert (floats.min(), floats.max()) == (-1, 1)
    assert np.array_equal(images.to_uint8(np.asarray(floats)), levels)
    assert images.to_uint8(np.array([-3.0, 3.0])).tolist() == [0, 255]


def test_grid_shows_the_exact_pixels():
    pixels = np.arange(1, 1 + 3 * 2 * 2, dtype=np.uint8).reshape(3, 2, 2, 1)
    picture = images.grid(pixels, columns=2)[..., 0]
    assert picture.shape == (7, 7)
    assert np.array_equal(picture[1:3, 1:3], pixels[0, ..., 0])
    assert np.array_equal(picture[1:3, 4:6], pixels[1, ..., 0])
    assert np.array_equal(picture[4:6, 1:3], pixels[2, ..., 0])
    assert picture[4:6, 4:6].max() == 0
    upscaled = images.grid(pixels, columns=3, padding=0, upscale=2)
    assert np.array_equal(upscaled[::2, ::2], images.grid(pixels, columns=3, padding=0))


def test_captions_are_left_of_the_rows():
    picture = np.zeros((60, 30, 1), np.uint8)
    captioned = captions.captioned(picture, ["a", "long caption", "c"])
    margin = captioned.shape[1] - 30
    assert captioned[:, margin:].max() == 0
    for row in range(3):
        assert captioned[20 * row : 20 * (row + 1), :margin].max() > 100


def test_saved_files_have_the_exact_pixels(tmp_path):
    gray = np.tile(np.arange(8, dtype=np.uint8)[:, None, None], (1, 5, 1))
    images.save_png(tmp_path / "gray.png", gray)
    with Image.open(tmp_path / "gray.png") as read:
        assert read.mode == "L"
        assert np.array_equal(np.asarray(read), gray[..., 0])
    color = np.random.default_rng(0).integers(256, size=(6, 5, 3), dtype=np.uint8)
    images.save_png(tmp_path / "color.png", color)
    with Image.open(tmp_path / "color.png") as read:
        assert np.array_equal(np.asarray(read), color)
    images.save_gif(tmp_path / "film.gif", [gray, gray + 50, gray + 100])
    with Image.open(tmp_path / "film.gif") as read:
        assert read.n_frames == 3


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_have_no_pixel(value):
    with pytest.raises(images.NotFinite):
        images.to_uint8(np.array([0.0, value], np.float32))
