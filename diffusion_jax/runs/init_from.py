"""Initialization of a run from the EMA parameters of another, `config.init_from`."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from ml_collections import ConfigDict

from diffusion_jax.config.experiment import Experiment
from diffusion_jax.files.paths import local_path
from diffusion_jax.training import fine_tuning
from diffusion_jax.training.state import TrainState
from diffusion_jax.workdir import resume
from diffusion_jax.workdir.parameters import load_params
from diffusion_jax.workdir.run_files import load_classes, load_config


def fine_tune(
    state: TrainState, config: ConfigDict, class_names: Sequence[str]
) -> tuple[TrainState, list[str]]:
    """Returns the state with the EMA parameters of config.init_from, and lines to log.

    Raises ValueError that names `init_from`.
    """
    init_from = config.init_from
    workdir = local_path(init_from)
    other = load_init_from(init_from)
    with _naming_init_from(init_from):
        step, params = load_params(workdir, other)
        state, transferred = fine_tuning.transfer(state, params)
        before = load_classes(workdir)
    lines = [f"Starting from step {step} of {workdir}", *transferred.lines()]
    if changes := resume.changes_of_noise(other.config, config):
        lines.append(
            f"Warning: {workdir} was trained with other noise levels or another parameterization "
            f"({'; '.join(changes)}), so its parameters fit only after more training; to keep "
            "its quality from the start, use its settings"
        )
    moved = [f"{old} -> {new}" for old, new in zip(before, class_names) if old != new]
    if config.model.num_classes and moved:
        lines.append(
            f"Warning: the classes of {workdir} have other names ({'; '.join(moved[:5])}); each "
            "class starts from the parameters of the class with the same index"
        )
    return state, lines


def load_init_from(init_from: str) -> Experiment:
    """Builds the experiment of the run `init_from`. Raises ValueError that names it."""
    with _naming_init_from(init_from):
        config = load_config(local_path(init_from))
        return Experiment.from_config(config, training=False)


@contextmanager
def _naming_init_from(init_from: str) -> Iterator[None]:
    try:
        yield
    except (ValueError, FileNotFoundError) as error:
        raise ValueError(f"init_from={init_from}: {error}") from None
