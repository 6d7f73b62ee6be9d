"""Films of the denoising, and animated files."""

import numpy as np
import pytest
from PIL import Image

from diffusion_jax import images
from diffusion_jax.pictures import captions, films


def frames_of(path):
    """Returns [(milliseconds, RGB pixels)] of an animation."""
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
def test_an_animation_holds_its_last_frame_for_two_seconds(kind, channels, still, tmp_path):
    """Also with equal frames at the end, which Pillow merges into one longer frame."""
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


def test_frames_of_an_animation_are_captioned_grids():
    film = np.arange(1, 25, dtype=np.uint8).repeat(6).reshape(3, 8, 2, 3, 1)
    shown = films.animation(film, ["a", "b", "c"], 2, upscale=2)
    assert len(shown) == 8
    wanted = captions.captioned_grid(film[:, 5], ["a", "b", "c"], 2, upscale=2)
    assert np.array_equal(shown[5], wanted)
