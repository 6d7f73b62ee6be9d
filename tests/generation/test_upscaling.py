"""Enlarging images: RRDBNet beside PyTorch, its files, Lanczos beside Pillow, and the script."""

import os
import pickle
import subprocess
import sys
import zipfile
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest
import quick
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from tiny import tiny_transformer_config

from diffusion_jax.config.experiment import Experiment
from diffusion_jax.files import torch_reader, torch_writer
from diffusion_jax.generation.upscaling import NetworkUpscaler, lanczos, make_upscaler, nearest
from diffusion_jax.importers import real_esrgan
from diffusion_jax.importers.train_states import make_train_state
from diffusion_jax.importers.workdirs import write_workdir
from diffusion_jax.models.rrdbnet import PARAMETERS, RRDBNet
from diffusion_jax.training.state import param_shapes

ROOT = Path(__file__).parents[2]


@pytest.fixture
def weights(golden):
    """The file of a small network, as torch.save wrote it."""
    return golden / "rrdbnet" / "tiny.pth"


@pytest.fixture
def state(weights):
    """The state dict in it."""
    return dict(torch_reader.read(weights)["params_ema"])


@pytest.fixture
def stored(golden):
    with np.load(golden / "rrdbnet" / "tiny.npz") as arrays:
        return {name: arrays[name] for name in arrays.files}


def noise(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def test_the_network_has_the_published_number_of_parameters():
    images = jax.ShapeDtypeStruct((1, 8, 8, 3), np.float32)
    shapes = jax.eval_shape(RRDBNet().init, jax.random.key(0), images)
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == PARAMETERS == 16_697_987


def test_the_network_equals_pytorchs(weights, stored):
    network, params = real_esrgan.read(weights)
    assert (network.blocks, network.features, network.growth) == (2, 8, 4)
    enlarged = jax.jit(network.apply)({"params": params}, stored["images"])
    assert enlarged.shape == (2, 20, 28, 3)
    assert_allclose(enlarged, stored["enlarged"], atol=1e-5)


def test_averaged_parameters_are_preferred_to_raw_ones(tmp_path, state):
    path = tmp_path / "both.pth"
    other = {name: array + 1 for name, array in state.items()}

    def bias(saved):
        torch_writer.write(path, saved)
        return real_esrgan.read(path)[1]["conv_last"]["bias"]

    assert_array_equal(bias({"params": other, "params_ema": state}), state["conv_last.bias"])
    assert_array_equal(bias({"params": other}), other["conv_last.bias"])


LATER = "body.1.rdb2.conv3.weight"
WRONG = {
    "a bare state dict": (lambda state: state, "neither params_ema nor params"),
    "a list": (lambda state: [state], "neither params_ema nor params"),
    "no dict": (lambda state: {"params_ema": 3}, "neither params_ema nor params"),
    "no tensors": (
        lambda state: {"params_ema": {**state, "x": 3}},
        "parameters without a name or tensor",
    ),
    "nothing": (lambda state: {"params": {}}, r"has no convolution conv_first\.weight"),
    "no kernel": (
        lambda state: {"params": state | {"body.0.rdb1.conv1.weight": np.float32([1])}},
        r"has no convolution body\.0\.rdb1\.conv1\.weight",
    ),
    "one missing": (
        lambda state: {"params": {n: a for n, a in state.items() if n != LATER}},
        rf"has no {LATER}",
    ),
    "one too many": (
        lambda state: {"params": state | {"body.7.conv.weight": state[LATER]}},
        r"has a body\.7\.conv\.weight, which RRDBNet does not have",
    ),
    "a shape": (
        lambda state: {"params": state | {LATER: state[LATER][:, 1:]}},
        rf"{LATER} has the shape \(4, 15, 3, 3\), not \(4, 16, 3, 3\)",
    ),
    "the network of factor 2, which takes 12 channels": (
        lambda state: {"params": state | {"conv_first.weight": np.ones((8, 12, 3, 3), "f4")}},
        r"conv_first\.weight has the shape \(8, 12, 3, 3\), not \(8, 3, 3, 3\)",
    ),
    "a number": (
        lambda state: {"params": state | {LATER: state[LATER] * np.float32(np.nan)}},
        rf"{LATER} contains non-finite values",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_file_gets_one_line(name, tmp_path, state):
    change, message = WRONG[name]
    path = tmp_path / "wrong.pth"
    torch_writer.write(path, change(state))
    with pytest.raises(ValueError, match=rf"wrong\.pth.*{message}") as caught:
        real_esrgan.read(path)
    assert "\n" not in str(caught.value)


def test_a_damaged_file_gets_one_line(tmp_path, weights):
    path = tmp_path / "damaged.pth"
    for length in (0, 1000, 100_000):
        path.write_bytes(weights.read_bytes()[:length])
        with pytest.raises(ValueError, match=r"damaged\.pth is damaged, or not a file of torch"):
            real_esrgan.read(path)


class Attack:
    """Pickles as a call of `open`, which creates a file."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return open, (str(self.trace), "w")


def test_code_in_a_file_is_not_executed(tmp_path):
    attack = pickle.dumps({"params_ema": Attack(tmp_path / "trace")}, 2)
    with zipfile.ZipFile(tmp_path / "attack.pth", "w") as file:
        file.writestr("attack/data.pkl", attack)
    with pytest.raises(ValueError, match=r"attack\.pth refers to '.*open'"):
        real_esrgan.read(tmp_path / "attack.pth")
    assert not (tmp_path / "trace").exists()
    pickle.loads(attack)["params_ema"].close()
    assert (tmp_path / "trace").exists()  # unpickled, it would have run


@pytest.mark.parametrize("channels", [1, 3])
def test_upscaled_pixels_equal_the_networks_on_any_number_of_devices(weights, channels):
    """Rounded to the nearest level and clipped; the last batch counts, and so do axes before it."""
    network, params = real_esrgan.read(weights)
    params["conv_last"]["bias"] = params["conv_last"]["bias"] + np.float32(0.4)  # beyond white
    images = noise(3, 5, 4, 6, channels)
    enlarged = NetworkUpscaler(network, params, batch_size=8)(images)
    assert enlarged.shape == (3, 5, 16, 24, channels)
    values = images.reshape(15, 4, 6, channels).astype(np.float32) / 255
    rgb = np.broadcast_to(values, (15, 4, 6, 3))
    exact = np.asarray(jax.jit(network.apply)({"params": params}, rgb), np.float64)
    assert exact.max() > 1.05
    exact = 255 * exact.clip(0, 1)
    if channels == 1:
        exact = exact @ np.array([[0.299], [0.587], [0.114]])
    assert abs(enlarged.reshape(exact.shape) - exact).max() < 0.501


def test_a_batch_does_not_change_its_images(weights):
    network, params = real_esrgan.read(weights)
    images = noise(19, 4, 4, 3)
    small, large = (NetworkUpscaler(network, params, batch_size=size)(images) for size in (8, 24))
    # One gray level: rounding may fall differently in batches of another size.
    assert abs(small.astype(int) - large).max() <= 1
    assert NetworkUpscaler(network, params)(images[:0]).shape == (0, 16, 16, 3)


def test_images_of_other_channels_are_refused(weights):
    with pytest.raises(ValueError, match="have 4 channels; give images with 1 or 3"):
        NetworkUpscaler(*real_esrgan.read(weights))(noise(2, 4, 4, 4))


def test_a_network_that_ignores_its_blocks_keeps_constant_images_constant(weights):
    """Only kernels' centers are left, and conv_first and conv_last pass the colors on."""
    network, params = real_esrgan.read(weights)
    params = jax.tree.map(np.zeros_like, params)
    for name in ("conv_first", "conv_up1", "conv_up2", "conv_hr", "conv_last"):
        for channel in range(3):
            params[name]["kernel"][1, 1, channel, channel] = 1
    images = np.empty((2, 4, 4, 3), np.uint8)
    images[0], images[1] = (10, 100, 200), (0, 255, 37)
    upscale = NetworkUpscaler(network, params)
    assert_array_equal(upscale(images), nearest(images, factor=4))
    assert_array_equal(upscale(images[..., 2:]), nearest(images[..., 2:], factor=4))


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("factor", [2, 3])
def test_lanczos_equals_pillows(mode, factor):
    images = noise(2, 3, 5, 4, len(mode))
    enlarged = lanczos(images, factor=factor)
    assert enlarged.shape == (2, 3, factor * 5, factor * 4, len(mode))
    for row, column in np.ndindex(2, 3):
        image = Image.fromarray(images[row, column].squeeze(), mode)
        expected = image.resize((4 * factor, 5 * factor), Image.Resampling.LANCZOS)
        assert_array_equal(enlarged[row, column].squeeze(), np.asarray(expected))


def test_lanczos_keeps_constant_images_constant_and_nearest_repeats_pixels():
    for level in (0, 77, 255):
        constant = np.full((1, 5, 4, 3), level, np.uint8)
        assert_array_equal(lanczos(constant, factor=3), np.full((1, 15, 12, 3), level))
    images = noise(2, 3, 2, 1)
    assert_array_equal(nearest(images, factor=2), np.kron(images, np.ones((1, 2, 2, 1), np.uint8)))


def test_upscalers_by_name(weights, monkeypatch):
    make = partial(make_upscaler, read_network=real_esrgan.read)
    images = noise(2, 4, 3, 1)
    assert_array_equal(make("nearest", 1)(images), images)
    assert_array_equal(make("nearest", 3)(images), nearest(images, factor=3))
    assert_array_equal(make("lanczos", 3)(images), lanczos(images, factor=3))
    for factor in (1, 4):
        assert make(str(weights), factor)(images).shape == (2, 16, 12, 1)
    with pytest.raises(ValueError, match="lanczos needs a factor; for example: --upscale 4"):
        make("lanczos", 1)
    with pytest.raises(ValueError, match=r"--upscale=2 was given.*tiny\.pth enlarges 4 times"):
        make(str(weights), 2)
    with pytest.raises(ValueError, match="--upscaler=bicubic is neither nearest nor lanczos"):
        make("bicubic", 2)
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(ValueError, match=r"tiny\.pth is a network.* and 2 were started"):
        make(str(weights), 4)


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """A run with random parameters."""
    path = tmp_path_factory.mktemp("runs") / "tiny"
    config = tiny_transformer_config()
    experiment = Experiment.from_config(config)
    shapes = param_shapes(experiment.model, config.data.resolution)
    draw = np.random.default_rng(0).normal
    params = jax.tree.map(lambda leaf: draw(scale=0.3, size=leaf.shape).astype("f4"), shapes)
    state = make_train_state(experiment, params, 0)
    write_workdir(path, config, state, {}, [])
    return path


def sample(*arguments):
    flags = quick.flags(2)
    return subprocess.run(
        [sys.executable, "-m", "scripts.sample", *map(str, arguments)],
        cwd=ROOT,
        env=os.environ | {"XLA_FLAGS": flags},
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.parametrize("upscaler", ["lanczos", "network"])
def test_every_image_file_is_enlarged_and_the_npz_is_not(workdir, tmp_path, weights, upscaler):
    factor, flags = 4, [f"--upscaler={weights}"]
    upscale = NetworkUpscaler(*real_esrgan.read(weights))
    if upscaler == "lanczos":
        factor, flags = 3, ["--upscaler=lanczos", "--upscale=3"]
        upscale = partial(lanczos, factor=3)
    settings = ["--count=3", "--columns=3", "--steps=4", "--save=grid,png,npz,gif", "--frames=2"]
    settings.append("--captions=none")  # so that the grid holds images alone
    result = sample(f"--workdir={workdir}", f"--out={tmp_path / 'out'}", *settings, *flags)
    assert result.returncode == 0, result.stderr
    sampled = np.load(tmp_path / "out" / "samples.npz")["arr_0"]
    assert sampled.shape == (3, 8, 8, 1)
    assert len(np.unique(sampled)) > 20
    expected = upscale(sampled)[..., 0].astype(int)
    side = 8 * factor
    pictures = sorted((tmp_path / "out" / "png").iterdir())
    grid = np.asarray(Image.open(tmp_path / "out" / "grid.png"), int)
    assert grid.shape == (side + 2, 3 * (side + 1) + 1)
    for index, path in enumerate(pictures):
        with Image.open(path) as picture:
            assert picture.mode == "L"
            # One gray level: rounding may fall differently in batches of another size.
            assert abs(np.asarray(picture, int) - expected[index]).max() <= 1
        part = grid[1:-1, 1 + index * (side + 1) :][:, :side]
        assert abs(part - expected[index]).max() <= 1
    with Image.open(tmp_path / "out" / "denoising.gif") as film:
        assert (film.size, film.n_frames) == (grid.shape[::-1], 2)


def test_an_unknown_upscaler_is_refused_in_one_line(workdir):
    result = sample(f"--workdir={workdir}", "--upscaler=nothing.pth")
    assert result.returncode == 1
    assert result.stderr.startswith("Error: --upscaler=nothing.pth is neither nearest nor lanczos")
    assert len(result.stderr.splitlines()) == 1
    assert not (workdir / "generated").exists()
