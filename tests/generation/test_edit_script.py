"""scripts.edit and Editor, with a small run."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from forks import run_each
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from tiny import tiny_transformer_config, train

from diffusion_jax.config.experiment import Experiment
from diffusion_jax.generation.edit import Editor, for_inversion
from diffusion_jax.generation.input_images import read_images
from diffusion_jax.generation.masks import read_masks
from diffusion_jax.generation.sampler import Sampler
from diffusion_jax.runs.run_edits import to_float
from diffusion_jax.workdir.parameters import load_params
from diffusion_jax.workdir.run_files import load_config

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.usefixtures("ordinary_promotion")
LABELS = np.array([3, 8], np.int32)


def edit(*arguments):
    command = [sys.executable, "-m", "scripts.edit", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run")
    # With v, the velocity of x is bounded even for a barely trained network.
    changes = {"parameterization__name": "v", "loss__kind": "simple", "sampling__clip": False}
    train(tiny_transformer_config(sampling__steps=8, **changes), workdir)
    return workdir


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Two images and a mask, which are 8 x 8; and a larger image."""
    folder = tmp_path_factory.mktemp("images")
    random = np.random.default_rng(0)
    for name in ("a", "b"):
        pixels = random.integers(0, 256, (8, 8), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{name}.png")
    mask = np.zeros((8, 8), np.uint8)
    mask[4:] = 255
    Image.fromarray(mask).save(folder / "mask.png")
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(folder / "black.png")
    Image.fromarray(random.integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(folder / "large.png")
    return folder


@pytest.fixture(scope="module")
def editor(run):
    config = load_config(run)
    _, params = load_params(run, Experiment.from_config(config))
    return Editor(Sampler.from_experiment(Experiment.from_config(config), batch_size=8), params)


@pytest.fixture(scope="module")
def inverter(editor, run):
    experiment = for_inversion(Experiment.from_config(load_config(run)), "heun")
    return Editor(Sampler.from_experiment(experiment, batch_size=8), editor.params)


@pytest.fixture(scope="module")
def images(files):
    return to_float(read_images([files / "a.png", files / "b.png"], side=8, channels=1))


def test_inpainting_keeps_the_pixels_outside_the_mask(run, files, tmp_path):
    out = tmp_path / "out"
    done = edit(
        "inpaint",
        f"--workdir={run}",
        f"--images={files / 'a.png'}",
        f"--images={files / 'b.png'}",
        f"--mask={files / 'mask.png'}",
        "--labels=3,8",
        "--count=2",
        "--resample=2",
        "--jump=3",
        f"--out={out}",
        "--upscale=2",
    )
    assert done.returncode == 0, done.stderr
    names = {path.name for path in out.iterdir()}
    assert names == {"grid.png", "settings.json"} | {
        f"{row:03d}_{k}.png" for row in (0, 1) for k in (1, 2)
    }
    for row, name in enumerate("ab"):
        known = np.asarray(Image.open(files / f"{name}.png"))
        one, two = (np.asarray(Image.open(out / f"{row:03d}_{k}.png")) for k in (1, 2))
        assert_array_equal(one[:4], known[:4])
        assert_array_equal(two[:4], known[:4])
        assert (one[4:] != two[4:]).any()
    settings = json.loads((out / "settings.json").read_text())
    assert settings["labels"] == [3, 8]
    assert (settings["edit"], settings["resample"], settings["jump"]) == ("inpaint", 2, 3)


def test_results_differ_more_with_more_strength(editor, images):
    far = [
        np.abs(editor.image_to_image(images, LABELS, strength=s, seed=0) - images).mean()
        for s in (0.13, 0.5, 1.0)
    ]
    assert far[0] < far[1] < far[2]
    sampled, varied = editor.vary(LABELS, strength=0.13, count=2, seed=0)
    assert varied.shape == (4, 8, 8, 1)
    assert np.abs(varied[0] - varied[1]).max() > 1e-3
    near = np.abs(varied[:2] - np.clip(sampled[:1], -1, 1)).mean()
    assert near < np.abs(varied[:2] - np.clip(sampled[1:], -1, 1)).mean()


def test_reconstruction_reverses_inversion(inverter, images):
    """8 steps of Heun and a barely trained network."""
    noises = inverter.invert(images, LABELS)
    again = inverter.reconstruct(noises, LABELS)
    moved = np.abs(noises - images).max()
    assert moved > 0.02
    assert np.abs(again - images).max() < moved / 10


def test_interpolation_begins_and_ends_at_its_noises(editor):
    noises = editor.initial_noise(2, seed=5)
    sampled = editor.interpolate(noises, LABELS, count=4, seed=5, inverted=False)
    # Images 0 and 1 of a seed start at its noises 0 and 1.
    plain, _ = editor.sampler(editor.params, LABELS, seed=5)
    assert_allclose(sampled[[0, 3]], plain, atol=1e-4 * np.abs(plain).max())
    assert np.abs(sampled[1] - sampled[0]).max() > 1e-3


def test_images_of_another_size_are_cropped_and_resized(files):
    cropped = read_images(files / "large.png", side=8, channels=1)
    assert cropped.shape == (1, 8, 8, 1)
    gray = Image.open(files / "large.png").convert("L").crop((5, 0, 25, 20))
    wanted = np.asarray(gray.resize((8, 8), Image.Resampling.LANCZOS))
    assert_array_equal(cropped[0, :, :, 0], wanted)


def test_a_mask_has_a_pixel_to_replace(files):
    with pytest.raises(ValueError, match=r"black\.png has no pixel to replace"):
        read_masks(files / "black.png", files / "a.png", side=8, rows=1)


@pytest.mark.parametrize("command", ["image", "interpolate", "vary", "invert"])
def test_other_edits_write_a_grid(run, files, tmp_path, command):
    both = [f"--images={files / name}" for name in ("a.png", "b.png")]
    given = [] if command == "vary" else both
    count = [] if command == "invert" else ["--count=2"]
    out = tmp_path / "out"
    done = edit(command, f"--workdir={run}", *given, *count, "--labels=3,8", f"--out={out}")
    assert done.returncode == 0, done.stderr
    assert (out / "grid.png").is_file()
    assert ("root mean square error" in done.stdout) == (command == "invert")


def test_errors_are_one_line(run, files, tmp_path):
    cases = [
        (["paint"], "Unknown command 'paint'; known commands: image, inpaint"),
        (["image"], "--images is missing"),
        (["image", "--images={f}/a.png", "--strength=0"], "strength=0.0 must be above 0"),
        (["image", "--images={f}/none.png"], "none.png is not a file"),
        (["image", "--images={f}/a.png", "--mask=x.png"], "--mask belongs to `inpaint`"),
        (["image", "--images={f}/a.png", "--labels=1,2"], "2 labels for 1 images"),
        (["inpaint", "--images={f}/a.png"], "--mask is missing"),
        (["inpaint", "--images={f}/large.png", "--mask={f}/mask.png"], "has 8 x 8 pixels"),
        (["interpolate", "--images={f}/a.png"], "--images names 1 files"),
        (["invert", "--images={f}/a.png", "--steps=1"], "Fewer than two of 1 sampling steps"),
        (
            ["invert", "--images={f}/a.png", "--inverter=ddpm"],
            "Unknown inverter 'ddpm'; known inverters: ddim",
        ),
        (["vary", "--guidance=1e38"], "sampling: guidance=1e+38 must be in [-1, 1000]"),
        (["vary", "--guidance=1", "--cfg_scale=2"], "--guidance and --cfg_scale were both given"),
        (["invert", "--images={f}/a.png", "--guidance=2"], "--guidance belongs to `image` and"),
        (["vary", "--guidance_interval=5,1"], "--guidance_interval=5,1: must be LOW,HIGH"),
        (["vary", "--autoguidance=/nowhere"], "sampling.autoguidance=/nowhere: "),
    ]
    out = tmp_path / "out"
    common = [f"--workdir={run}", f"--out={out}"]
    given = [[a.format(f=files) for a in arguments] + common for arguments, _ in cases]
    for (_, message), done in zip(cases, run_each("edit", given)):
        assert done.returncode != 0
        assert message in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1, done.stderr
        assert not out.exists()
