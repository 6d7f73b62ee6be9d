"""What a run that goes on cannot be asked for."""

import pytest
from tiny import tiny_transformer_config

from diffusion_jax.runs.train import train
from diffusion_jax.workdir.classes import save_classes
from diffusion_jax.workdir.config import save_config


@pytest.fixture
def begun(tmp_path):
    """A run of six steps, as far as its folder's names tell, with a folder that is not its own."""
    save_config(tiny_transformer_config(steps=6), tmp_path)
    save_classes(["cat"], tmp_path)
    names = ("3", "6", "9.damaged", "12.orbax-checkpoint-tmp")
    for name in (*(f"{name}/params" for name in names), "20"):
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
    return tmp_path


def test_fewer_steps_than_it_has_taken(begun):
    with pytest.raises(ValueError, match=r"has taken 6 steps already, and steps=5 .* steps=6 or m"):
        train(tiny_transformer_config(steps=5), begun)


def test_another_seed(begun):
    with pytest.raises(ValueError, match=r"run of seed=0, .* with seed=4; give seed=0 to go on"):
        train(tiny_transformer_config(steps=9, seed=4), begun)


def test_other_fields_are_looked_at_later(begun):
    """The classes, which are none of these."""
    with pytest.raises(ValueError, match="holds a run of other classes"):
        train(tiny_transformer_config(steps=6, log_every=3), begun)
