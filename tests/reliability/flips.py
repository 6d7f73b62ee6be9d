"""Random bit flips in all files of a checkpoint, read as the scripts do.

Prints the row of the table in docs/reliability.md.
"""

import random
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict
from tiny import tiny_transformer_config

from diffusion_jax.config.experiment import Experiment
from diffusion_jax.runs import evaluate
from diffusion_jax.runs.run import load
from diffusion_jax.runs.train import init_train_state
from diffusion_jax.training.checkpoints import Checkpoints
from diffusion_jax.training.state import TrainState
from diffusion_jax.workdir.parameters import load_params
from diffusion_jax.workdir.run_files import save_config

METADATA = {"images_seen": 12345, "data": {"count": 7}}
STEP = 5


def main(count: int = 200, folder: Path | None = None, seed: int = 0) -> tuple[int, list[str]]:
    """Returns (count of flips, files whose flips changed a result without an error).

    Every reader reads each damaged checkpoint; `sample` and `fid` read less than `train`.
    """
    with tempfile.TemporaryDirectory() as temporary:
        workdir = folder or Path(temporary)
        config = tiny_transformer_config()
        state = state_of(config)
        save_config(config, workdir)
        with Checkpoints(workdir / "checkpoints", create=True) as checkpoints:
            checkpoints.save(STEP, state, metadata=METADATA)
        readers = readers_of(workdir, config, state)
        whole = {name: read() for name, read in readers.items()}
        assert _same(whole["train"], (state, METADATA))
        files = sorted(path for path in (workdir / "checkpoints").rglob("*") if path.is_file())
        weights = [path.stat().st_size for path in files]
        generator, silent, noticed, lines = random.Random(seed), [], Counter(), 0
        for _ in range(count):
            # Half of them in a file at random, so that small ones have their share.
            (path,) = generator.choices(files, weights if generator.random() < 0.5 else None)
            content = path.read_bytes()
            flip(path, generator.randrange(8 * len(content)))
            refusing = set()
            for name, read in readers.items():
                try:
                    found = read()
                except (ValueError, FileNotFoundError) as error:
                    refusing.add(name)
                    lines += len(str(error).splitlines())
                else:
                    if not _same(found, whole[name]):
                        silent.append(f"{path.relative_to(workdir)} by {name}")
            assert "train" in refusing, path  # it reads every file
            noticed.update(refusing)
            path.write_bytes(content)
    assert lines == noticed.total(), "more than a line for one of them"
    seen = ", ".join(str(noticed[name]) for name in readers)
    print(
        "| a flipped bit in a checkpoint, over all its files, read as `train`, `sample` and `fid` "
        f"do | {count} | {count - len(silent)} ({seen} noticed; the rest of no effect) | "
        f"{len(silent)} |"
    )
    return count, silent


def readers_of(
    workdir: Path, config: ConfigDict, state: TrainState
) -> dict[str, Callable[[], Any]]:
    """Returns a function for each script that reads a checkpoint as the script does."""

    def train() -> Any:
        with Checkpoints(workdir / "checkpoints") as checkpoints:
            return checkpoints.restore(STEP, state), checkpoints.metadata(STEP)

    def sample() -> Any:
        return [
            load_params(workdir, Experiment.from_config(config), ema=ema) for ema in (True, False)
        ]

    def fid() -> Any:
        options = {"count": 8, "labels": "random", "batch_size": 8, "seed": 0}
        run = load(workdir)
        images = evaluate.samples_of(run, run.experiment, **options)
        return images.about["parameters_sha256"]

    return {"train": train, "sample": sample, "fid": fid}


def flip(path: Path, bit: int) -> None:
    """Flips one bit of a file."""
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


def state_of(config: ConfigDict) -> TrainState:
    """Makes a state of a config's network from random numbers."""
    generator = np.random.default_rng(0)

    def filled(leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        return np.asarray(5 * generator.normal(size=leaf.shape)).astype(leaf.dtype)

    state = jax.tree.map(
        filled, jax.eval_shape(lambda: init_train_state(Experiment.from_config(config)))
    )
    return replace(state, step=np.array(STEP, np.int32))


def small_state() -> TrainState:
    """Makes the state of a model with two layers."""
    generator = np.random.default_rng(0)
    params = {
        "first": {"kernel": generator.normal(size=(3, 3, 4, 8)).astype(np.float32)},
        "second": {"kernel": generator.normal(size=(40, 30)).astype(np.float32)},
    }
    moments = {"count": np.int32(STEP) * np.ones((), np.int32), "mu": jax.tree.map(np.copy, params)}
    return TrainState(np.array(STEP, np.int32), params, jax.tree.map(np.copy, params), moments)


def _same(one: object, other: object) -> bool:
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)
