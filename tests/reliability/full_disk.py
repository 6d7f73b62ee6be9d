"""Runs on small file systems that fill up at different moments; mounting needs root.

    PYTHONPATH=tests python -m reliability.full_disk

Prints a row of the table in docs/reliability.md. Half of the levels are tried without the check of
the free space, so that a write fails at any moment.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
# Sizes of the file system in kB; the state has 2.6 MB, an uncompressed checkpoint about as much.
LEVELS = (8, 16, 24, 40, 80, 400, 1000, 1500, 2500, 3500, 5000, 7000)
BLIND = """
import sys
from diffusion_jax.training.checkpoints import Checkpoints
Checkpoints._check_space = lambda *_: None
from scripts import train
from scripts.cli import app
app.run(train.main)
"""
SMALL = {"width": 64, "depth": 2, "num_heads": 2, "patch_size": 4}
OPTIONS = [
    *(f"--config.model.{name}={value}" for name, value in SMALL.items()),
    *("--config.steps=8", "--config.checkpoint_every=2", "--config.sample_every=4"),
    *("--config.log_every=1", "--config.batch_size=16", "--config.optimizer.warmup_steps=1"),
    *("--config.sampling.steps=2", "--config.sampling.grid_rows=2"),
]


def train(workdir, *, blind):
    """Trains eight steps with four checkpoints; returns the finished process."""
    start = ["-c", BLIND] if blind else ["-m", "scripts.train"]
    command = [sys.executable, *start, "--config=configs/digits_dit.py", f"--workdir={workdir}"]
    return subprocess.run(
        [*command, *OPTIONS],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=300,
    )


def survives(folder, kilobytes, *, blind):
    """True if a full disk gives one line, and the same command resumes once there is room."""
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)]
    subprocess.run(mount, check=True)
    try:
        full = train(folder / "run", blind=blind)
        lines = [line for line in full.stderr.splitlines() if line.startswith("Error: ")]
        clear = full.returncode == 0 or (full.returncode == 1 and len(lines) == 1)
        clear &= blind or "Traceback" not in full.stderr  # TensorStore prints its own
        print(f"{kilobytes} kB{' (blind)' if blind else ''}: {lines or 'finished'}", flush=True)
        subprocess.run(["mount", "-o", "remount,size=50m", str(folder)], check=True)
        after = train(folder / "run", blind=False)
        if after.returncode or not clear:
            print(full.stderr, after.stderr)
        return clear and after.returncode == 0
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def main():
    """Prints the row; returns the number of levels that were not survived."""
    kept = 0
    with tempfile.TemporaryDirectory() as folder:
        for number, level in enumerate(LEVELS):
            kept += survives(Path(folder), level, blind=number % 2 == 1)
    lost = len(LEVELS) - kept
    print(f"| a small disk that is full at some moment | {len(LEVELS)} | {kept} | {lost} |")
    return lost


if __name__ == "__main__":
    sys.exit(main() > 0)
