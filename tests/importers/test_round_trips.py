"""Parameters of every network, written and read again in every format."""

import jax
import numpy as np
import pytest
from numpy.testing import assert_array_equal
from table_cases import SMALL_NETWORKS

from configs import base
from configs import original as original_config
from diffusion_jax.config.experiment import Experiment
from diffusion_jax.config.schema import flatten, model_section
from diffusion_jax.importers import original, safetensors
from diffusion_jax.importers.train_states import make_train_state, read_weights
from diffusion_jax.importers.workdirs import write_workdir
from diffusion_jax.training.state import param_shapes
from diffusion_jax.workdir import parameters
from diffusion_jax.workdir.run_files import load_config

STEP = 7


@pytest.fixture(params=SMALL_NETWORKS)
def small(request):
    """(experiment, random parameters) of a network; float16 holds the parameters exactly."""
    config, name = base.get_config(), request.param
    with config.unlocked():
        config.model = model_section(name, num_classes=10, **SMALL_NETWORKS[name])
    config.data.resolution = 8
    config.loss.kind = "cross_entropy" if name == "noisy_classifier" else "simple"
    experiment = Experiment.from_config(config)
    return experiment, random_params(experiment)


def random_params(experiment):
    draw = np.random.default_rng(0).standard_normal
    shapes = param_shapes(experiment.model, experiment.config.data.resolution)
    return jax.tree.map(lambda x: np.asarray(draw(x.shape), np.float16).astype(np.float32), shapes)


def assert_same(found, wanted):
    assert jax.tree.structure(found) == jax.tree.structure(wanted)
    jax.tree.map(lambda a, b: assert_array_equal(a, b, strict=True), found, wanted)


def test_safetensors(small, tmp_path):
    experiment, params = small
    safetensors.write(tmp_path / "a", experiment.config, params, step=STEP, class_names=[])
    step, found = safetensors.read(tmp_path / "a" / safetensors.FILE, experiment)
    assert step == STEP
    assert_same(found, params)


def test_checkpoints(small, tmp_path):
    experiment, params = small
    averaged = jax.tree.map(np.negative, params)
    state = make_train_state(experiment, params, STEP, ema_params=averaged)
    write_workdir(tmp_path / "run", experiment.config, state, {}, [])
    if "dtype" in experiment.config.model:
        assert experiment.config.model.dtype == "auto"
        assert load_config(tmp_path / "run").model.dtype == "float32"
    for raw, wanted in ((True, params), (False, averaged)):
        step, found, _ = read_weights(tmp_path / "run", experiment, checkpoint=None, raw=raw)
        assert step == STEP
        assert_same(found, wanted)


def test_packaged_models(small, tmp_path):
    experiment, params = small
    parameters.write(tmp_path, experiment.config, [], STEP, params)
    assert parameters.read_step(tmp_path) == STEP
    like = param_shapes(experiment.model, 8)
    assert_same(parameters.read_params(tmp_path, like), params)


@pytest.mark.parametrize(
    ("blocks", "classes"),
    [("res", 0), ("conv", 10), ("res,clsAtn", 10), ("conv,atn,chnAtn", 0), ("res,conv,res", 10)],
)
def test_files_of_the_original(blocks, classes, tmp_path):
    config = original_config.get_config()
    config.model.num_classes = classes
    fields = {"blocks": blocks, "width": 16, "levels": 2, "window": 4, "time_embedding": "sin"}
    config.model.update(fields | {"time_dim": 8, "label_dim": 8 if classes else 512})
    experiment = Experiment.from_config(config)
    params = random_params(experiment)
    model, settings = original.write_checkpoint(tmp_path, experiment, params, epoch=1, step=STEP)
    found = original.read_checkpoint(model, settings, time_embedding="sin")
    assert (found.epoch, found.step) == (1, STEP)
    assert found.settings.items() <= flatten(experiment.config).items()
    assert_same(found.params, params)
