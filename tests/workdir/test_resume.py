"""Configs that a resumed run refuses."""

import pytest
from tiny import tiny_transformer_config, train

from diffusion_jax.workdir.run_files import save_classes, save_config


@pytest.fixture
def begun(tmp_path):
    """A run of six steps by its folder names, and a folder that is not a checkpoint."""
    save_config(tiny_transformer_config(steps=6), tmp_path)
    save_classes(["cat"], tmp_path)
    names = ("3", "6", "9.damaged", "12.orbax-checkpoint-tmp")
    for name in (*(f"{name}/params" for name in names), "20"):
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
    return tmp_path


def test_a_state_that_no_device_can_hold_is_refused_before_it_is_allocated(tmp_path):
    config = tiny_transformer_config(steps=1, model__width=2_000_000)
    with pytest.raises(ValueError, match=r"takes [\d,]{9,}\.\d GB on each device, which has \d"):
        train(config, tmp_path)
    assert not list(tmp_path.iterdir())


def test_fewer_steps_than_already_taken_are_refused(begun):
    with pytest.raises(
        ValueError, match=r"has taken 6 steps already, more than steps=5; .* steps=6 or m"
    ):
        train(tiny_transformer_config(steps=5), begun)


def test_another_seed_is_refused(begun):
    with pytest.raises(ValueError, match=r"run of seed=0, .* than seed=4; give seed=0 to resume"):
        train(tiny_transformer_config(steps=9, seed=4), begun)


def test_other_classes_are_refused(begun):
    with pytest.raises(ValueError, match=r"class names .* differ \(cat -> 0\)"):
        train(tiny_transformer_config(steps=6, log_every=3), begun)
