"""A run that the version before wrote: its images, and its next steps, are what they were."""

import shutil

import numpy as np
import pytest
from numpy.testing import assert_allclose

from diffusion_jax.config import overrides
from diffusion_jax.config.validation import validate
from diffusion_jax.generation.sampler import Generator
from diffusion_jax.runs.train import train
from diffusion_jax.training.logging import read_metrics
from diffusion_jax.workdir import run_folder
from diffusion_jax.workdir.parameters import load_params

LABELS = np.arange(8, dtype=np.int32) + 3  # the last one is the null label


@pytest.fixture
def run(golden):
    return golden / "older_run"


@pytest.fixture
def expected(run):
    with np.load(run / "expected.npz") as file:
        return dict(file)


@pytest.mark.parametrize(
    ("name", "settings", "options"),
    [
        ("default", {}, {}),
        ("eta", {"steps": 20}, {"eta": 1.0}),
        ("original", {"solver": "original", "stride": 50, "clip": True}, {"eta": 0.7}),
    ],
)
def test_images_are_what_they_were(run, expected, name, settings, options):
    config = run_folder.load(run)
    overrides.change(config, settings, options)
    validate(config)
    _, params = load_params(run, config)
    images, _ = Generator.from_config(config, batch_size=8)(params, LABELS, seed=3)
    assert_allclose(images, expected[name], atol=1e-5)


@pytest.mark.usefixtures("ordinary_promotion")
def test_the_next_steps_are_what_they_were(run, expected, tmp_path):
    workdir = shutil.copytree(run, tmp_path / "run")
    config = run_folder.load(workdir)
    config.steps, config.log_every, config.sampling.steps = 8, 1, 2
    train(config, workdir)
    lines = [line for line in read_metrics(workdir) if line["step"] > 6]
    for name in ("loss", "simple", "vlb", "gradient_norm"):
        assert_allclose([line[name] for line in lines], expected[name], rtol=1e-5, err_msg=name)
