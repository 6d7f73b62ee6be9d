"""Post-hoc EMA: a run with another average of its parameters, combined from its checkpoints."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import jax
import numpy as np
from jaxtyping import PyTree

from diffusion_jax.config.experiment import Experiment
from diffusion_jax.importers.train_states import make_train_state
from diffusion_jax.importers.workdirs import check_free, write_workdir
from diffusion_jax.training import post_hoc_ema
from diffusion_jax.training.checkpoints import Checkpoints
from diffusion_jax.training.state import param_shapes
from diffusion_jax.workdir.run_files import CHECKPOINTS, load_classes, load_config

# Largest relative distance of the combination from the wanted average, in L2 of the profiles.
LARGEST_MISFIT = 0.25


@dataclass(frozen=True)
class SavedAverage:
    """Average in a checkpoint, the second of its two or the first, with its weight in the sum."""

    step: int
    sigma_rel: float
    second: bool
    weight: float = 0.0


def reaverage(
    workdir: Path,
    out: Path,
    *,
    sigma_rel: float,
    checkpoint: int | None = None,
    progress: Callable[[Iterable], Iterable] = iter,
) -> tuple[list[SavedAverage], float]:
    """Writes the run `out`: the run in workdir with an average of the width sigma_rel.

    Args:
        checkpoint: step of the last checkpoint to use; None for the newest.

    Returns:
        (averages with their weights, relative misfit), see `post_hoc_ema.weights` and `misfit`.

    Raises:
        FileNotFoundError, ValueError: if there is no such run or checkpoint, if its averages have
            no power function profile, or if no combination is near enough to the wanted one.
    """
    check_free(out, "out")
    experiment = Experiment.from_config(load_config(workdir))
    like = param_shapes(experiment.model, experiment.config.data.resolution)
    with Checkpoints(workdir / CHECKPOINTS) as checkpoints:
        last = checkpoints.newest() if checkpoint is None else checkpoint
        averages = _find_averages(checkpoints, last, workdir)
        averages, misfit = _weigh(averages, last, sigma_rel)
        params = _combine(checkpoints, progress(averages), like)
    origin = {"from": "averages of a run", "workdir": str(workdir.resolve())}
    origin |= {"sigma_rel": sigma_rel, "epoch": 0, "step": last, "imported_as": last}
    state = make_train_state(experiment, params, last)
    write_workdir(out, experiment.config, state, origin, load_classes(workdir))
    return averages, misfit


def _find_averages(checkpoints: Checkpoints, last: int, workdir: Path) -> list[SavedAverage]:
    """Returns the averages with a power function profile, up to the step `last`."""
    steps = checkpoints.steps()
    if last not in steps:
        known = ", ".join(map(str, steps))
        raise FileNotFoundError(f"No checkpoint of step {last} in {workdir}; there: {known}")
    found = []
    for step in steps:
        ema = checkpoints.metadata(step).get("ema", {}) if step <= last else {}
        if ema.get("since") == 0:  # the profile covers all steps
            widths = ema["of"]["sigma_rels"]
            found += [SavedAverage(step, width, bool(index)) for index, width in enumerate(widths)]
    if not found:
        raise ValueError(
            f"The averages in {workdir} have no power function profile since the first step, and "
            "cannot be combined. Train with --config.ema.name=power "
            "--config.ema.power.second_sigma_rel=0.1"
        )
    return found


def _weigh(
    averages: list[SavedAverage], last: int, sigma_rel: float
) -> tuple[list[SavedAverage], float]:
    """Returns the averages with their weights in the combination, and its misfit."""
    steps = np.array([average.step for average in averages])
    widths = np.array([average.sigma_rel for average in averages])
    weights = post_hoc_ema.weights(steps, widths, last, sigma_rel)
    misfit = post_hoc_ema.misfit(steps, widths, weights, last, sigma_rel)
    if misfit > LARGEST_MISFIT:
        trained = " and ".join(f"{width:g}" for width in sorted(set(widths)))
        raise ValueError(
            f"The {len(averages)} averages of the run cannot be combined to sigma_rel={sigma_rel}: "
            f"the nearest combination differs by {misfit:.0%}. Choose a width near the trained "
            f"{trained}, or keep more checkpoints (keep_every)"
        )
    weighted = [replace(average, weight=float(w)) for average, w in zip(averages, weights)]
    return weighted, misfit


def _combine(checkpoints: Checkpoints, averages: Iterable[SavedAverage], like: PyTree) -> PyTree:
    """Returns the weighted sum of the averages, summed in float64."""
    total = jax.tree.map(lambda leaf: np.zeros(leaf.shape), like)
    for average in averages:
        if average.second:
            params = checkpoints.restore_second_ema(average.step, like)
        else:
            params = checkpoints.restore_params(average.step, like, ema=True)
        for into, leaf in zip(jax.tree.leaves(total), jax.tree.leaves(params)):
            into += average.weight * leaf
    return jax.tree.map(lambda leaf: leaf.astype(np.float32), total)
