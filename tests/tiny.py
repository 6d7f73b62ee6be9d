"""Models of the digits that are small enough to train in a test."""

from pathlib import Path

from ml_collections import ConfigDict

from configs import digits
from diffusion_jax.config.schema import model_section
from diffusion_jax.runs import train as training
from diffusion_jax.runs.datasets import resolve_experiment
from diffusion_jax.training.state import TrainState


def train(config: ConfigDict, workdir: Path) -> TrainState:
    """Trains a config, as `scripts.train` does."""
    return training.train(resolve_experiment(config), workdir)


def tiny_config(**changes) -> ConfigDict:
    """Returns a tiny config. changes: fields, with __ for the dot (model__width=8)."""
    config = digits.get_config()
    config.model.width = 8
    config.model.blocks = "res,chnAtn"
    config.model.time_dim = 16
    config.model.label_dim = 16
    config.batch_size = 16
    config.steps = 6
    config.optimizer.learning_rate = 1e-3
    config.optimizer.warmup_steps = 2
    config.optimizer.decay = "constant"
    config.sampling.steps = 4
    config.sampling.grid_rows = 3
    config.sampling.grid_columns = 2
    config.log_every = 2
    config.sample_every = 6
    config.checkpoint_every = 3
    with config.unlocked(), config.ignore_type():
        config.update_from_flattened_dict({k.replace("__", "."): v for k, v in changes.items()})
    return config


def tiny_transformer_config(**changes) -> ConfigDict:
    """Returns a config whose network compiles in a fifth of the time and learns the variance."""
    config = tiny_config()
    config.model = model_section(
        "dit",
        channels=1,
        num_classes=10,
        patch_size=4,
        width=8,
        depth=1,
        num_heads=2,
        learn_variance=True,
    )
    with config.unlocked(), config.ignore_type():
        config.update_from_flattened_dict({k.replace("__", "."): v for k, v in changes.items()})
    return config
