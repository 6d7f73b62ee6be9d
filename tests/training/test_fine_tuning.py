"""A run that starts from another one's parameters."""

import shutil

import jax
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from tiny import tiny_transformer_config as tiny_config
from tiny import train

from diffusion_jax.config.experiment import Experiment
from diffusion_jax.training.fine_tuning import transfer
from diffusion_jax.training.state import TrainState
from diffusion_jax.workdir.parameters import load_params

pytestmark = pytest.mark.usefixtures("ordinary_promotion")
SMALL = {"steps": 2, "checkpoint_every": 2, "sample_every": 2}


@pytest.fixture(scope="module")
def finished(tmp_path_factory, ordinary_promotion):
    workdir = tmp_path_factory.mktemp("runs") / "first"
    train(tiny_config(**SMALL, log_every=1), workdir)
    return workdir


def named(params):
    return {jax.tree_util.keystr(k): np.asarray(v) for k, v in jax.tree.leaves_with_path(params)}


def test_matching_parameters_are_copied_and_the_rest_listed(finished, tmp_path, capfd):
    """Another depth, and no classes. A step with a learning rate of nearly 0 keeps the rest."""
    config = tiny_config(
        **SMALL | {"steps": 1, "model__depth": 2, "model__num_classes": 0},
        init_from=str(finished),
        optimizer__learning_rate=1e-30,
    )
    train(config, tmp_path)
    printed = "".join(capfd.readouterr())
    source = named(load_params(finished, Experiment.from_config(tiny_config(**SMALL)))[1])
    ours = named(load_params(tmp_path, Experiment.from_config(config))[1])
    shared = source.keys() & ours.keys()
    assert shared
    for name in shared:
        assert_allclose(ours[name], source[name], atol=1e-7, err_msg=name)
    left_over = sorted(source.keys() - ours.keys())
    assert all("label" in name for name in left_over)
    assert f"Starting from step 2 of {finished}" in printed
    assert (
        f"{len(shared)} parameter arrays copied, {len(ours) - len(shared)} initialized" in printed
    )
    assert "Initialized: block_1/qkv/kernel (8, 24), not in the other run" in printed
    assert "Unused: label_embedding/table (10, 8)" in printed


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"schedule__name": "linear"}, "schedule.name: cosine -> linear"),
        ({"parameterization__name": "v"}, "parameterization.name: eps -> v"),
        ({"optimizer__learning_rate": 1e-4, "ema__decay": 0.5}, ""),
        # Options of an entry that is not selected.
        ({"schedule__edm__rho": 5.0, "schedule__linear__rescale": True}, ""),
    ],
)
def test_other_noise_levels_than_those_of_init_from_are_logged(
    finished, tmp_path, capfd, changes, named
):
    config = tiny_config(**SMALL | {"steps": 1}, **changes, init_from=str(finished))
    train(config, tmp_path)
    warnings = [line for line in "".join(capfd.readouterr()).split("\n") if "other noise" in line]
    assert len(warnings) == bool(named)
    assert named in "".join(warnings)


def test_classes_of_other_names_than_those_of_init_from_are_logged(finished, tmp_path, capfd):
    other = tmp_path / "other"
    shutil.copytree(finished, other)
    (other / "classes.txt").write_text("".join(f"{name}\n" for name in "0213456789"))
    train(tiny_config(**SMALL | {"steps": 1}, init_from=str(other)), tmp_path / "run")
    assert "have other names (2 -> 1; 1 -> 2)" in "".join(capfd.readouterr())


def test_a_resumed_fine_tuning_ignores_init_from(finished, tmp_path):
    first = train(tiny_config(**SMALL, init_from=str(finished)), tmp_path)
    # The other run is not needed any more.
    gone = str(tmp_path / "nowhere")
    again = train(tiny_config(**SMALL | {"steps": 3}, init_from=gone), tmp_path)
    assert int(again.step) == 3
    assert int(first.step) == 2
    kept = named(
        load_params(
            tmp_path, Experiment.from_config(tiny_config(**SMALL)), checkpoint=2, ema=False
        )[1]
    )
    for name, array in named(first.params).items():
        assert_array_equal(kept[name], array)


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("nowhere", "init_from=.*nowhere.*not the workdir of a run"),
        ("", "No parameter has a name and shape"),
    ],
)
def test_init_from_errors_name_the_field(finished, tmp_path, where, message):
    if where:
        config = tiny_config(**SMALL, init_from=str(tmp_path / where))
        with pytest.raises(ValueError, match=message):
            train(config, tmp_path / "run")
        assert not (tmp_path / "run").exists()
    else:
        state = TrainState(0, {"a": np.zeros(3)}, {"a": np.zeros(3)}, ())
        with pytest.raises(ValueError, match=message):
            transfer(state, {"a": np.zeros(4), "b": np.zeros(3)})


def test_names_and_shapes_decide_the_transfer():
    ones = {"both": np.ones(2), "shape": np.ones(3), "ours": np.ones(1)}
    state = TrainState(np.int32(0), ones, ones, ())
    theirs = {"both": np.full(2, 7.0), "shape": np.full(4, 7.0), "theirs": np.full(1, 7.0)}
    new, result = transfer(state, theirs)
    assert new.params["both"].tolist() == new.ema_params["both"].tolist() == [7, 7]
    assert new.params["shape"].tolist() == [1, 1, 1]
    assert result.copied == ("both",)
    assert result.unused == ("theirs (1,)",)
    assert sorted(result.initialized) == [
        "ours (1,), not in the other run",
        "shape (3,), (4,) in the other run",
    ]
