"""Super-resolution: training on downsampled images, and samples for small images."""

import jax
import numpy as np
import pytest
from forks import run_each
from numpy.testing import assert_array_equal
from PIL import Image
from tiny import tiny_config, train

from configs import adm_128_512
from diffusion_jax.config.experiment import Experiment, make_model
from diffusion_jax.config.schema import model_section
from diffusion_jax.generation.edit import Editor
from diffusion_jax.generation.outputs import OutputOptions
from diffusion_jax.generation.sampler import Sampler
from diffusion_jax.runs.run import load
from diffusion_jax.runs.sample_folder import sample_into
from diffusion_jax.workdir.parameters import load_params
from diffusion_jax.workdir.run_files import load_config


@pytest.fixture(scope="module")
def run(tmp_path_factory, ordinary_promotion):
    """A run of two steps that enlarges digits from 4x4 to 8x8."""
    config = tiny_config(steps=2, checkpoint_every=2, sample_every=2, batch_size=8, label_dropout=0)
    config.sampling.guidance = 0.0
    small = {"width": 8, "multipliers": (1,), "blocks": 1, "attention": (), "num_heads": 1}
    config.model = model_section("adm", channels=1, num_classes=10, low_resolution=4, **small)
    workdir = tmp_path_factory.mktemp("enlarging") / "run"
    train(config, workdir)
    return workdir


def test_training_writes_a_grid_of_enlarged_images(run):
    (grid,) = (run / "samples").glob("*.png")
    with Image.open(grid) as picture:
        assert np.asarray(picture).std() > 0


def test_enlarged_images_differ_by_row_and_column(run, tmp_path):
    for name, gray in (("black", 0), ("white", 255)):
        Image.new("L", (4, 4), gray).save(tmp_path / f"{name}.png")
    files = [f"--images={tmp_path / name}" for name in ("black.png", "white.png")]
    common = ["enlarge", f"--workdir={run}", "--labels=3", "--count=2"]
    (done, *wrong) = run_each(
        "edit",
        [
            [*common, *files, f"--out={tmp_path / 'out'}"],
            [*common, f"--out={tmp_path / 'none'}"],
            ["image", f"--workdir={run}", *files, f"--out={tmp_path / 'none'}"],
        ],
    )
    assert done.returncode == 0, done.stderr
    sampled = {
        (row, name): np.asarray(Image.open(tmp_path / "out" / f"{row:03d}_{name}.png"))
        for row in (0, 1)
        for name in ("1", "2")
    }
    assert all(image.shape == (8, 8) for image in sampled.values())
    # Both rows of the same seed differ, and so do the columns of a row.
    assert np.any(sampled[0, "1"] != sampled[0, "2"])
    assert np.any(sampled[0, "1"] != sampled[1, "1"])
    messages = ("--images is missing", "enlarges images of 4x4: use `enlarge`")
    for message, failed in zip(messages, wrong):
        assert failed.returncode == 1
        assert message in failed.stderr
        assert len(failed.stderr.strip().splitlines()) == 1, failed.stderr
    assert not (tmp_path / "none").exists()


def test_sampling_from_labels_alone_is_refused(run, tmp_path):
    loaded = load(run)
    with pytest.raises(ValueError, match=r"enlarges images of 4x4: use `scripts\.edit enlarge"):
        sample_into(loaded, loaded.experiment, tmp_path / "out", OutputOptions(["grid"]), count=1)
    assert not (tmp_path / "out").exists()


def test_the_result_depends_on_the_small_image(run):
    """The same noise with another small image gives another result."""
    config = load_config(run)
    _, params = load_params(run, Experiment.from_config(config))
    # A fresh network's last layer is 0, and two steps leave it small.
    params = jax.tree.map(lambda x: x + 0.3, params)
    editor = Editor(Sampler.from_experiment(Experiment.from_config(config), batch_size=8), params)
    small = np.linspace(-1, 1, 16, dtype=np.float32).reshape(1, 4, 4, 1)
    labels = np.array([3, 3, 3], np.int32)
    a, _, again = editor.enlarge(np.concatenate([small, -small, small]), labels, seed=0)
    first = editor.enlarge(-small, labels[:1], seed=0)[0]
    assert np.any(a != first)
    assert np.any(a != again)  # other noise
    assert_array_equal(a, editor.enlarge(small, labels[:1], seed=0)[0])


def test_the_config_is_valid():
    config = adm_128_512.get_config()
    Experiment.from_config(config)
    with pytest.raises(ValueError, match="resolution=500 is not divisible"):
        make_model(config).check(500)
