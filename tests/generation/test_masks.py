"""Masks: white or True is replaced, in files with and without transparency and in arrays."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from PIL import Image

from diffusion_jax.generation.masks import read_masks

LEFT = np.zeros((8, 8), bool)
LEFT[:, :4] = True


def picture(seed=0):
    return np.random.default_rng(seed).integers(0, 200, (8, 8, 3), dtype=np.uint8)


def with_alpha(colors, alpha):
    colors = np.broadcast_to(np.asarray(colors, np.uint8), (8, 8, 3))
    return np.concatenate([colors, np.asarray(alpha, np.uint8)[..., None]], axis=-1)


def save(path, pixels, **options):
    Image.fromarray(np.ascontiguousarray(np.asarray(pixels, np.uint8))).save(path, **options)
    return path


@pytest.fixture
def image(tmp_path):
    return save(tmp_path / "image.png", picture())


def read(mask, image, **options):
    return read_masks(mask, image, **({"side": 8, "rows": 1} | options))


def erased(colors=None):
    """The image, with the left half erased."""
    return with_alpha(picture() if colors is None else colors, 255 * ~LEFT)


def strokes(level=255):
    """Strokes over the left half, on a transparent ground."""
    return with_alpha(np.where(LEFT, level, 0)[..., None], 255 * LEFT)


def test_mask_files_of_each_kind_agree(tmp_path, image):
    masks = {
        "gray.png": 255 * LEFT,
        "rgb.png": 255 * LEFT[..., None].repeat(3, axis=-1),
        "opaque.png": with_alpha(255 * LEFT[..., None], np.full((8, 8), 255)),
        "strokes.png": strokes(),
        "strokes.webp": strokes(),
        "erased.png": erased(),
    }
    for name, pixels in masks.items():
        options = {"lossless": True} if name.endswith("webp") else {}
        assert_array_equal(read(save(tmp_path / name, pixels, **options), image)[0], LEFT)
    Image.fromarray(LEFT).save(tmp_path / "bits.png")
    assert_array_equal(read(tmp_path / "bits.png", image)[0], LEFT)
    Image.fromarray(strokes()).convert("LA").save(tmp_path / "la.png")
    assert_array_equal(read(tmp_path / "la.png", image)[0], LEFT)
    palette = Image.fromarray(np.uint8(LEFT), "P")
    palette.putpalette([0, 0, 0, 255, 255, 255])
    palette.save(tmp_path / "palette.png", transparency=0)
    assert_array_equal(read(tmp_path / "palette.png", image)[0], LEFT)


def test_erased_image_of_another_compression_is_recognized(tmp_path):
    smooth = np.linspace(20, 180, 8)[:, None, None] + np.zeros((8, 8, 3))
    image = save(tmp_path / "image.jpg", smooth, quality=90)
    assert_array_equal(read(save(tmp_path / "mask.png", erased(smooth)), image)[0], LEFT)
    # The image itself may be the erased one.
    both = save(tmp_path / "both.png", erased())
    assert_array_equal(read(both, both)[0], LEFT)


def test_soft_edges_are_cut_at_half(tmp_path, image):
    alpha = np.where(LEFT, 140, 100)
    mask = save(tmp_path / "a.png", with_alpha(255, alpha))
    assert_array_equal(read(mask, image)[0], LEFT)
    mask = save(tmp_path / "b.png", with_alpha(picture(), 255 - alpha))
    assert_array_equal(read(mask, image)[0], LEFT)


@pytest.mark.parametrize(
    "mask",
    [
        strokes(0),
        with_alpha(np.uint8([255, 120, 0]), 255 * LEFT),
        erased(picture(1)),
        with_alpha(255, np.zeros((8, 8))),
    ],
    ids=["black strokes", "orange strokes", "another image", "nothing"],
)
def test_ambiguous_transparency_is_refused(tmp_path, image, mask):
    path = save(tmp_path / "mask.png", mask)
    with pytest.raises(ValueError, match=r"mask\.png has transparent parts") as caught:
        read(path, image)
    assert "\n" not in str(caught.value)


def test_white_strokes_on_a_white_image_are_refused(tmp_path):
    image = save(tmp_path / "image.png", np.full((8, 8, 3), 255))
    with pytest.raises(ValueError, match="may be the ones to replace or to keep"):
        read(save(tmp_path / "mask.png", strokes()), image)


def test_arrays_and_files_have_one_threshold(tmp_path, image):
    levels = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4
    of_file = read(save(tmp_path / "a.png", levels), image)[0]
    assert_array_equal(of_file, levels > 127)
    for array in (levels, levels.astype(np.int64), levels > 127, (levels > 127).astype(float)):
        assert_array_equal(read(array, picture())[0], of_file)
        assert_array_equal(read(array[None], picture())[0], of_file)
    assert_array_equal(read(LEFT.astype(np.uint8), picture())[0], LEFT)


@pytest.mark.parametrize("dtype", [np.float32, np.int16])
def test_arrays_without_a_clear_meaning_are_refused(dtype):
    mask = np.full((8, 8), 300 if dtype == np.int16 else 0.3, dtype)
    with pytest.raises(ValueError, match=r"Unsupported mask of type .*; give booleans"):
        read(mask, picture())


def test_a_mask_for_each_image_and_one_for_all(tmp_path, image):
    other = save(tmp_path / "other.png", picture(1))
    mask, full = (
        save(tmp_path / "m.png", 255 * LEFT),
        save(tmp_path / "f.png", np.full((8, 8), 255)),
    )
    found = read([mask, full], [image, other], rows=2)
    assert_array_equal(found, [LEFT, np.ones((8, 8), bool)])
    assert_array_equal(read(mask, [image, other], rows=2), [LEFT, LEFT])
    with pytest.raises(ValueError, match="2 masks for 1 images"):
        read([mask, full], image)
    with pytest.raises(ValueError, match="as arrays"):
        read(mask, picture())
