"""Kills a run at random moments, and compares it with an uninterrupted one.

Prints the row of the table in docs/reliability.md.
"""

import random
import signal
import tempfile
import time
from pathlib import Path

import jax
import numpy as np

from diffusion_jax.config.experiment import Experiment
from diffusion_jax.runs.train import init_train_state
from diffusion_jax.training.checkpoints import Checkpoints
from diffusion_jax.workdir.run_files import CHECKPOINTS, load_config
from reliability.runs import Run, results_of

CHANGES = {"checkpoint_every": 20, "sample_every": 30, "log_every": 7, "steps": 4000}
WITHIN = 6.0  # seconds from the start of training, which compiles in about half of them


def main(kills: int = 30, seed: int = 0) -> int:
    """Returns the number of differences from the uninterrupted run."""
    generator, done = random.Random(seed), 0
    with tempfile.TemporaryDirectory() as folder:
        whole, killed = Path(folder) / "whole", Path(folder) / "killed"
        run = Run(whole, 1, CHANGES)
        assert run.end(600)[0] == [0], run.output(0)
        for _ in range(kills):
            run = Run(killed, 1, CHANGES)
            run.wait_until_training()
            time.sleep(generator.uniform(0, WITHIN))
            run.send(signal.SIGKILL, 0)
            done += run.end()[0] == [-signal.SIGKILL]
            print(f"kill {done}: {_newest(killed)} steps saved", flush=True)
        run = Run(killed, 1, CHANGES)
        assert run.end(600)[0] == [0], run.output(0)
        lost = _differences(whole, killed)
    survived = 0 if lost else done
    print(f"| a kill (SIGKILL) at a random moment of training | {done} | {survived} | {lost} |")
    return lost


def _newest(workdir: Path) -> int:
    names = [path.name for path in (workdir / "checkpoints").glob("[0-9]*")]
    return max((int(name) for name in names if name.isdecimal()), default=0)


def _differences(one: Path, other: Path) -> int:
    """Counts the differences in metrics, sample grids, checkpoint metadata and the last state."""
    parts = zip(results_of(one), results_of(other))
    return sum(a != b for a, b in parts) + (not _same(_last_state(one), _last_state(other)))


def _last_state(workdir: Path) -> list[np.ndarray]:
    config = load_config(workdir)
    with Checkpoints(workdir / CHECKPOINTS) as checkpoints:
        shapes = jax.eval_shape(lambda: init_train_state(Experiment.from_config(config)))
        return jax.tree.leaves(checkpoints.restore(checkpoints.newest(), shapes))


def _same(one: list[np.ndarray], other: list[np.ndarray]) -> bool:
    return all(map(np.array_equal, one, other)) and len(one) == len(other)
