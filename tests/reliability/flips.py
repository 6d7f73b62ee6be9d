"""Flips single bits at random in all files of a checkpoint, and reads it.

Prints the row of the table in docs/reliability.md.
"""

import random
import tempfile
from pathlib import Path

import jax
import numpy as np

from diffusion_jax.training.checkpoints import Checkpoints
from diffusion_jax.training.state import TrainState

ABOUT = {"images_seen": 12345, "data": {"count": 7}}
STEP = 5


def main(count: int = 200, folder: Path | None = None, seed: int = 0) -> tuple[int, list[str]]:
    """(flips, the files of those that changed what is read, and were not noticed)."""
    with tempfile.TemporaryDirectory() as temporary:
        workdir = (folder or Path(temporary)) / "checkpoints"
        state = small_state()
        with Checkpoints(workdir, create=True) as checkpoints:
            checkpoints.save(STEP, state, about=ABOUT)
        files = sorted(path for path in (workdir / str(STEP)).rglob("*") if path.is_file())
        weights = [path.stat().st_size for path in files]
        generator, silent, harmless, lines = random.Random(seed), [], 0, 0
        for _ in range(count):
            # Half of them in a file at random, so that small ones have their share.
            (path,) = generator.choices(files, weights if generator.random() < 0.5 else None)
            content = path.read_bytes()
            flip(path, generator.randrange(8 * len(content)))
            try:
                with Checkpoints(workdir) as checkpoints:
                    found = checkpoints.restore(STEP, state), checkpoints.about(STEP)
            except (ValueError, FileNotFoundError) as error:
                lines += len(str(error).splitlines())
            else:
                same = _same(found, (state, ABOUT))
                harmless += same
                silent += [] if same else [str(path.relative_to(workdir))]
            path.write_bytes(content)
    noticed = count - harmless - len(silent)
    assert lines == noticed, "more than a line for one of them"
    print(
        f"| bits flipped in a checkpoint | {count} | {count - len(silent)} "
        f"({noticed} noticed, {harmless} of no effect) | {len(silent)} |"
    )
    return count, silent


def flip(path: Path, bit: int) -> None:
    """Flips one bit of a file."""
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


def small_state() -> TrainState:
    """Parameters, averages and moments of a model with two layers."""
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
