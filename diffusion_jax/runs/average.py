"""A run with another average of its parameters, made from those that its checkpoints hold."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from diffusion_jax.config.experiment import make_model
from diffusion_jax.importers import imported_run
from diffusion_jax.training import post_hoc_ema
from diffusion_jax.training.checkpoints import Checkpoints
from diffusion_jax.training.state import init_params
from diffusion_jax.workdir.classes import load_classes
from diffusion_jax.workdir.config import load_config
from diffusion_jax.workdir.layout import CHECKPOINTS

# How far the combination may be from the wanted average, relative, in L2 of the profiles.
LARGEST_MISFIT = 0.25


@dataclass(frozen=True)
class Saved:
    """An average that a checkpoint holds. second: which of its two. weight: what it counts."""

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
) -> tuple[list[Saved], float]:
    """Writes the run `out`: of the run in workdir, with an average of the width sigma_rel.

    checkpoint: its step, which is also the last that is used; None: the newest. Returns what the
    average is made of, and how far that is off: see `post_hoc.weights` and `misfit`. Raises
    FileNotFoundError or ValueError if there is no such run or checkpoint, if its averages are of
    no power function, or if no combination of them is near enough to the wanted one.
    """
    imported_run.check_free(out, "out")
    config = load_config(workdir)
    model = make_model(config)
    like = jax.eval_shape(lambda: init_params(model, config.seed, config.data.resolution))
    with Checkpoints(workdir / CHECKPOINTS) as checkpoints:
        last = checkpoints.newest() if checkpoint is None else checkpoint
        if last not in checkpoints.steps():
            known = ", ".join(map(str, checkpoints.steps()))
            raise FileNotFoundError(f"No checkpoint of step {last} in {workdir}; there: {known}")
        saved = [
            found
            for step in checkpoints.steps()
            if step <= last
            for found in _averages_in(step, checkpoints.metadata(step))
        ]
        if not saved:
            raise ValueError(
                f"The averages in {workdir} are not of a power function since its first step, and "
                "cannot be combined. Train with --config.average=power "
                "--config.ema.power.second_sigma_rel=0.1"
            )
        times = np.array([average.step for average in saved])
        widths = np.array([average.sigma_rel for average in saved])
        found = post_hoc_ema.weights(times, widths, last, sigma_rel)
        misfit = post_hoc_ema.misfit(times, widths, found, last, sigma_rel)
        if misfit > LARGEST_MISFIT:
            raise ValueError(
                f"The {len(saved)} averages in {workdir} cannot be combined to the width "
                f"{sigma_rel}: the nearest combination is {misfit:.0%} off. Choose a width between "
                f"those that were trained ({', '.join(f'{w:g}' for w in sorted(set(widths)))}), or "
                "train with more checkpoints (keep_every)"
            )
        saved = [Saved(s.step, s.sigma_rel, s.second, float(w)) for s, w in zip(saved, found)]
        total = jax.tree.map(lambda leaf: np.zeros(leaf.shape), like)
        for average in progress(saved):
            if average.second:
                params = checkpoints.restore_second_ema(average.step, like)
            else:
                params = checkpoints.restore_params(average.step, like, ema=True)
            for into, leaf in zip(jax.tree.leaves(total), jax.tree.leaves(params)):
                into += average.weight * leaf
    params = jax.tree.map(lambda leaf: leaf.astype(np.float32), total)
    origin = {"from": "averages of a run", "workdir": str(workdir.resolve())}
    origin |= {"sigma_rel": sigma_rel, "epoch": 0, "step": last, "imported_as": last}
    state = imported_run.imported_state(config, params, last)
    imported_run.write_workdir(out, config, state, origin, load_classes(workdir))
    return saved, misfit


def _averages_in(step: int, about: Mapping[str, Any]) -> list[Saved]:
    """The averages of a checkpoint that weigh all steps since the first by a power function."""
    average = about.get("average", {})
    if average.get("since") != 0:
        return []
    widths = average["of"]["sigma_rels"]
    return [Saved(step, width, bool(second)) for second, width in enumerate(widths)]
