"""The playground's sampling, pictures and tabs, without a server."""

import threading
from pathlib import Path

import jax
import numpy as np
import pytest
from numpy.testing import assert_array_equal
from PIL import Image
from tiny import tiny_config, tiny_transformer_config

from diffusion_jax import parallel
from diffusion_jax.config.experiment import Experiment
from diffusion_jax.config.schema import model_section
from diffusion_jax.generation import sampler_cache
from diffusion_jax.generation.class_labels import captions
from diffusion_jax.playground import pictures, sampling
from diffusion_jax.runs.run import Run
from diffusion_jax.training.state import init_params


def untrained(config, names=None):
    """A run with random parameters: new ones would predict zeros."""
    experiment = Experiment.from_config(config)
    params = init_params(experiment.model, 0, config.data.resolution)
    noise = np.random.default_rng(0)
    params = jax.tree.map(
        lambda leaf: np.asarray(leaf) + noise.normal(0, 0.1, leaf.shape).astype(np.float32), params
    )
    return Run(Path("untrained"), experiment, names or [], 0, parallel.replicate(params))


def grid_of(run, images, labels):
    """The pixels of the grid of these images, with their classes."""
    chosen = captions(run.labels(labels, len(images)), *sampling.classes(run))
    return np.asarray(pictures.grid(images, chosen))


@pytest.fixture(scope="module")
def run():
    return untrained(tiny_transformer_config(), [f"digit {i}" for i in range(10)])


@pytest.fixture(scope="module")
def plain():
    """A model without classes."""
    return untrained(tiny_transformer_config(model__num_classes=0, sampling__guidance=0.0))


@pytest.fixture(scope="module")
def enlarging():
    """A model that makes 8x8 of 4x4."""
    small = {"width": 8, "multipliers": (1,), "blocks": 1, "attention": (), "num_heads": 1}
    config = tiny_config(sampling__guidance=0.0, sampling__steps=2)
    config.model = model_section("adm", channels=1, num_classes=10, low_resolution=4, **small)
    return untrained(config)


@pytest.fixture
def wanted(run):
    own = sampling.run_settings(run)
    return {"labels": "digit 3, 8", "count": 2, "seed": 5, **own, "steps": 3}


def png(folder, pixels, name="a.png"):
    Image.fromarray(pixels).save(folder / name)
    return folder / name


def test_live_frames_end_with_the_images_of_sample(run):
    settings = {"seed": 5, "steps": 3, "guidance": 2.5, "solver": "heun"}
    *frames, (images, done) = sampling.sample_live(run, "digit 3, 8", count=2, **settings)
    assert_array_equal(images, run.sample("3,8", **settings))
    assert not done
    film = run.denoising("3,8", frames=3, of="x0", **settings)
    assert [progress for _, progress in frames] == [f"Denoising: {i} of 3" for i in (1, 2, 3)]
    for (frame, _), expected in zip(frames, film.swapaxes(0, 1), strict=True):
        assert_array_equal(frame, expected)


def test_the_grid_shows_captions_beside_enlarged_pixels(run):
    images = run.sample("3,8", steps=2)
    bare, captioned = pictures.grid(images), pictures.grid(images, ["3", "8"])
    assert bare.width > 640
    assert captioned.height > bare.height


def test_settings_of_the_run_are_left_out_of_the_arguments(run, wanted):
    own = {"labels": "3", "count": 1, "seed": 0}
    assert sampling.arguments(run, {**own, **sampling.run_settings(run)}) == own
    assert sampling.arguments(run, wanted)["steps"] == 3


def test_the_line_of_python_samples_the_same_images(run, wanted):
    wanted = wanted | {"guidance": 0.5}
    line = sampling.python_line(run, wanted)
    call = line.replace("diffusion_jax.load('untrained')", "run")
    assert call != line
    expected = run.sample("3,8", seed=5, steps=3, guidance=0.5)
    assert_array_equal(eval(call), expected)
    short = sampling.python_line(run, {**wanted, **sampling.run_settings(run)})
    assert "steps" not in short
    assert "guidance" not in short


def test_few_large_images_are_sampled_at_the_same_time(run, monkeypatch, wanted):
    assert sampling.batch_size(run, 5) == 8
    assert sampling.batch_size(run, 64) == 64
    *_, (expected, _) = sampling.sample_live(run, **wanted | {"count": 20, "labels": "random"})
    monkeypatch.setattr(sampling, "MOST_PIXELS", 8 * 8**2)
    assert [sampling.batch_size(run, count) for count in (1, 3, 8, 64)] == [1, 4, 8, 8]
    assert sampling.edits(run, 64).batch_size == 8
    sizes, sampler = [], run.sampler

    def recording_sampler(*arguments, batch_size, **rest):
        sizes.append(batch_size)
        return sampler(*arguments, batch_size=batch_size, **rest)

    monkeypatch.setattr(run, "sampler", recording_sampler)
    *frames, (images, _) = sampling.sample_live(run, **wanted | {"count": 20, "labels": "random"})
    assert_array_equal(images, expected)
    assert len(frames) == 3
    assert sizes == [8]
    monkeypatch.setattr(sampling, "MOST_PIXELS", 1)
    assert sampling.batch_size(run, 64) == 1


def test_compiled_programs_do_not_pile_up(run, monkeypatch):
    cleared = []
    monkeypatch.setattr(sampler_cache, "MOST_PROGRAMS", 2)
    monkeypatch.setattr(sampler_cache.jax, "clear_caches", lambda: cleared.append(run))
    fresh = Run(run.workdir, run.experiment, run.class_names, 0, run.params)
    expected = {steps: fresh.sample("3", steps=steps) for steps in (1, 2)}
    assert_array_equal(fresh.sample("3", steps=1), expected[1])
    assert not cleared
    fresh.sample("3", steps=3)
    assert len(cleared) == 1
    assert_array_equal(fresh.sample("3", steps=2), expected[2])


def test_closing_the_live_frames_waits_for_the_model(run):
    live = sampling.sample_live(run, "random", count=2, seed=0, steps=30)
    next(live)
    before = threading.active_count()
    live.close()
    assert threading.active_count() == before - 1


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"labels": "zebra"}, "Unknown label 'zebra'"),
        ({"solver": "dim"}, "Unknown solver 'dim'"),
    ],
)
def test_unknown_names_are_errors(run, wanted, changed, message):
    with pytest.raises(ValueError, match=message):
        list(sampling.sample_live(run, **wanted | changed))


def test_a_model_without_classes(plain):
    own = sampling.run_settings(plain)
    assert (sampling.classes(plain)[0], sampling.is_guided(plain)) == (0, False)
    described = sampling.description(plain, {"labels": "random", "seed": 0, **own})
    assert "random" not in described
    assert "guidance" not in described
    *_, (images, _) = sampling.sample_live(plain, "random", count=3, seed=0)
    assert_array_equal(images, plain.sample(count=3))


def test_a_classifier_has_no_page():
    config = tiny_config(loss__kind="cross_entropy", label_dropout=0.0, sampling__guidance=0.0)
    small = {"width": 8, "multipliers": (1,), "attention": (), "head_channels": 8}
    config.model = model_section("noisy_classifier", channels=1, num_classes=10, **small)
    run = Run(Path("classifier"), Experiment.from_config(config), [], 0, {})
    with pytest.raises(ValueError, match="is a classifier"):
        sampling.run_settings(run)


def test_files_become_central_squares_of_the_models_size(run, enlarging, tmp_path):
    pixels = np.arange(64, dtype=np.uint8).reshape(8, 8)
    assert_array_equal(pictures.read_square(run, png(tmp_path, pixels))[0, :, :, 0], pixels)
    wide = np.concatenate([np.zeros((64, 32)), np.full((64, 64), 200), np.zeros((64, 32))], axis=1)
    cut = pictures.read_square(run, png(tmp_path, wide.astype(np.uint8)))
    assert_array_equal(cut, np.full((1, 8, 8, 1), 200))
    assert pictures.read_square(enlarging, png(tmp_path, pixels)).shape == (1, 4, 4, 1)


def test_unreadable_files_are_named_without_their_folder(run, tmp_path):
    long = png(tmp_path, np.zeros((2, 4097), np.uint8), "long.png")
    with pytest.raises(ValueError, match=r"^long.png has 4097 x 2 pixels; .* 4096 a side"):
        pictures.read_square(run, long)
    (tmp_path / "b.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"^b.png cannot be read"):
        pictures.read_square(run, tmp_path / "b.png")
    png(tmp_path, np.arange(64, dtype=np.uint8).reshape(8, 8))
    (tmp_path / "c.png").write_bytes((tmp_path / "a.png").read_bytes()[:-30])
    with pytest.raises(ValueError, match=r"^[^/]*c.png[^/]*$"):
        pictures.read_square(run, tmp_path / "c.png")


def test_a_pixel_is_painted_if_half_of_it_is(run, tmp_path):
    layer = np.zeros((80, 80, 4), np.uint8)
    layer[:26, :34, 3] = 255  # six of ten rows of a pixel, and four of ten columns
    mask = pictures.painted_mask(run, [png(tmp_path, layer)])
    assert_array_equal(np.argwhere(mask).max(axis=0), [2, 2])
    with pytest.raises(ValueError, match="Nothing is painted"):
        pictures.painted_mask(run, [png(tmp_path, np.zeros_like(layer))])


def test_grids_have_few_empty_cells_and_square_pixels():
    def columns(count):
        picture = pictures.grid(np.zeros((count, 8, 8, 1), np.uint8))
        upscale = 640 // 8
        return next(n for n in range(1, 99) if picture.width == n * (8 * (upscale // n) + 1) + 1)

    assert [columns(count) for count in (1, 4, 7, 8, 10, 64)] == [1, 2, 4, 4, 5, 8]
    image = np.arange(64, dtype=np.uint8).reshape(8, 8, 1)
    assert_array_equal(np.asarray(pictures.enlarged(image))[40::80, 40::80], image[..., 0])


@pytest.fixture
def page_of():
    """The function that makes the page of a run."""
    pytest.importorskip("gradio", reason="the page is made with Gradio")
    from diffusion_jax.playground.page import page

    return page


def shown_labels(page):
    """The labels of the inputs that are shown."""
    components = [part["props"] for part in page.config["components"]]
    return {part.get("label") for part in components if part.get("visible", True)}


def test_the_page_has_what_the_model_can_do(page_of, run, plain, enlarging):
    labels = shown_labels(page_of(run))
    assert {"Sample", "Inpaint", "Seed", "Guidance", "Steps"} <= labels
    assert any(label.startswith("Classes") for label in labels if label)
    labels = shown_labels(page_of(plain))
    assert {"Sample", "Inpaint", "Steps"} <= labels
    assert "Guidance" not in labels
    assert not any(label.startswith("Class") for label in labels if label)
    labels = shown_labels(page_of(enlarging))
    assert {"A picture", "Classes (empty: none)"} <= labels
    assert not {"Sample", "Inpaint", "Compare"} & labels


def click_function(page, button):
    """The function that a click on a button calls."""
    return next(fn.fn for fn in page.fns.values() if (button._id, "click") in fn.targets)


def click(page, name, *values):
    """The last outputs of a click on a button. values: of the settings column, then of the tab."""
    (button,) = [block for block in page.blocks.values() if block.elem_id == name]
    return list(click_function(page, button)(*values))[-1]


def test_a_sample_becomes_exactly_the_image_to_edit(page_of, run):
    page, samples = page_of(run), run.sample([1, 2], steps=2)
    buttons = [block for block in page.blocks.values() if getattr(block, "value", "") == "Use it"]
    assert len(buttons) == 2  # inpaint, image to image
    for button in buttons:
        use = click_function(page, button)
        assert_array_equal(use(samples, 2), samples[1, :, :, 0])
        for number in (3, 0, None):
            with pytest.raises(Exception, match=f"no image {number}; choose from 1 to 2"):
                use(samples, number)
        with pytest.raises(Exception, match="No images have been sampled yet"):
            use(None, 1)


SETTINGS = [["3"], 2, 5, "ddim", 3, 1.0]
EXPECTED = {"count": 2, "seed": 5, "steps": 3, "guidance": 1.0, "solver": "ddim"}


def test_the_tabs_edit_as_python_does(page_of, run, tmp_path):
    page, image = page_of(run), run.sample([1], steps=2)
    file, layer = png(tmp_path, image[0, :, :, 0]), np.zeros((80, 80, 4), np.uint8)
    layer[:30, :30, 3] = 255
    mask = np.pad(np.ones((3, 3), bool), ((0, 5), (0, 5)))
    painted = [str(png(tmp_path, layer, "layer.png"))]
    inpainted = click(page, "inpaint", *SETTINGS, image, painted, 2)
    expected = run.edit.inpaint(image, mask, "3", resample=2, jump=2, **EXPECTED)
    assert_array_equal(inpainted["value"], pictures.grid(expected))
    assert_array_equal(expected[:, ~mask], image.repeat(2, axis=0)[:, ~mask])
    original, changed = click(page, "change", *SETTINGS, str(file), 0.5)
    expected = run.edit.image_to_image(image, "3", strength=0.5, **EXPECTED)
    assert_array_equal(changed["value"], pictures.grid(expected))
    assert_array_equal(np.asarray(original)[40::80, 40::80], image[0, :, :, 0])


def test_the_tab_interpolate_ends_with_the_images_of_its_seeds(page_of, run, plain):
    values = [[], 5, 5, "ddim", 3, 1.0, 1, ["3"], None, 2, [], None]
    *_, frames = click(page_of(run), "interpolate", *values)
    assert len(frames) == 5
    for frame, seed, label in ((frames[0], 1, "3"), (frames[-1], 2, "random")):
        end = run.sample(label, count=1, seed=seed, steps=3, guidance=1.0)[0]
        assert np.abs(frame.astype(int) - end).max() <= 1
    values = [[], 2, 0, "ddim", 3, 0.0, 1, [], None, 2, [], None]
    *_, frames = click(page_of(plain), "interpolate", *values)
    assert frames.shape == (2, 8, 8, 1)


def test_the_tab_interpolate_takes_two_images(page_of, run, tmp_path):
    ends = [run.sample([number], steps=2) for number in (1, 2)]
    files = [str(png(tmp_path, end[0, :, :, 0], f"{i}.png")) for i, end in enumerate(ends)]
    values = [[], 5, 5, "ddim", 8, 1.0, 7, ["1"], files[0], 2, [], files[1]]
    *_, found = click(page_of(run), "interpolate", *values)
    options = {"count": 5, "seed": 7, "steps": 8, "guidance": 1.0}
    assert_array_equal(found, run.edit.interpolate(*ends, [1, 10], **options))


def test_the_tab_compare_has_equal_seeds_and_two_settings(page_of, run):
    first, second, *lines = click(page_of(run), "compare", *SETTINGS, "heun", 2, 0.0)
    assert_array_equal(np.asarray(first), grid_of(run, run.sample("3", **EXPECTED), "3"))
    other = EXPECTED | {"solver": "heun", "steps": 2, "guidance": 0.0}
    assert_array_equal(np.asarray(second), grid_of(run, run.sample("3", **other), "3"))
    assert ["heun" in line for line in lines] == [False, True]


def test_the_tab_enlarge_samples_large_images(page_of, enlarging, tmp_path):
    file = png(tmp_path, np.zeros((4, 4), np.uint8))
    original, result = click(page_of(enlarging), "enlarge", [], 2, 0, "ddim", 2, 0.0, str(file))
    assert original.size == (640, 640)
    expected = enlarging.edit.enlarge(np.zeros((1, 4, 4, 1), np.uint8), "none", count=2, seed=0)
    assert_array_equal(result["value"], pictures.grid(expected))


def test_errors_are_one_line_of_text(capsys):
    gradio = pytest.importorskip("gradio", reason="the page is made with Gradio")
    from diffusion_jax.playground.components import one_line_errors

    with pytest.raises(gradio.Error) as caught, one_line_errors():
        raise ValueError("one\n<b>two")
    assert caught.value.message == "one &lt;b&gt;two"
    assert "Traceback" not in capsys.readouterr().err
    with pytest.raises(gradio.Error) as caught, one_line_errors():
        raise RuntimeError("of a library")
    assert caught.value.message.startswith("RuntimeError;")
    assert "of a library" in capsys.readouterr().err
