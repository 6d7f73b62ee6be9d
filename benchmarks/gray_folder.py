"""Training on a folder of gray images, with the OASIS config made small.

Writes the handwritten digits of scikit-learn as gray PNGs, trains `configs/oasis64.py` on them at
8x8 pixels, and prints the Frechet distance of pixels to the real images at two checkpoints.

    python -m benchmarks.gray_folder --workdir runs/gray
"""

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
from absl import flags
from PIL import Image

from scripts.cli import app

_WORKDIR = flags.DEFINE_string("workdir", "runs/gray", "Folder of the run; images beside it.")
_STEPS = flags.DEFINE_integer("steps", 3000, "Training steps.", 100)
_SAMPLES = flags.DEFINE_integer("samples", 500, "Images for each distance.", 100)

FIRST = 20  # the step of the first checkpoint


def main() -> None:
    from sklearn.datasets import load_digits

    workdir = Path(_WORKDIR.value)
    folder = workdir.with_name(f"{workdir.name}_images")
    folder.mkdir(parents=True, exist_ok=True)
    for index, image in enumerate(load_digits().images):
        pixels = np.round(image * 255 / 16).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"case_{index:04d}.png")
        # The config excludes these files, as it does the segmentations of OASIS.
        Image.fromarray((pixels > 127) * np.uint8(255)).save(folder / f"seg_{index:04d}.png")
    settings = {
        "data.name": f"folder:{folder}",
        "data.data_dir": workdir.with_name(f"{workdir.name}_decoded"),
        "data.resolution": 8,
        "data.flip": False,
        "model.width": 32,
        "model.levels": 2,
        "optimizer.learning_rate": 1e-3,
        "keep_every": 1,
        "sample_every": _STEPS.value,
        "sampling.grid_rows": 4,
        "sampling.grid_columns": 4,
    }
    given = [f"--config.{name}={value}" for name, value in settings.items()]
    for steps in (FIRST, _STEPS.value):
        ends = [f"--config.steps={steps}", f"--config.checkpoint_every={steps}"]
        run("train", "--config=configs/oasis64.py", f"--workdir={workdir}", *given, *ends)
    reference = workdir / "reference.npz"
    if not reference.exists():
        run("fid", "reference", f"--workdir={workdir}", "--features=pixels", f"--out={reference}")
    run(
        *("fid", "evaluate", f"--workdir={workdir}", f"--reference={reference}"),
        *("--features=pixels", f"--checkpoint={FIRST},{_STEPS.value}"),
        *("--solver=ddim", "--steps=50", f"--count={_SAMPLES.value}", "--batch_size=100"),
    )
    with (workdir / "evaluations" / "table.csv").open() as file:
        distances = {int(row["checkpoint"]): float(row["FD"]) for row in csv.DictReader(file)}
    first, last = distances[FIRST], distances[_STEPS.value]
    (grid,) = (workdir / "samples").glob(f"*{_STEPS.value}.png")
    with Image.open(grid) as image:
        print(f"{grid} has the mode {image.mode}")
    print(
        f"FD after {FIRST} steps {first:.3f}, after {_STEPS.value} {last:.3f}: {first / last:.1f}x"
    )


def run(script: str, *arguments: str) -> None:
    print("+", "python -m", f"scripts.{script}", *arguments, flush=True)
    subprocess.run([sys.executable, "-m", f"scripts.{script}", *arguments], check=True)


if __name__ == "__main__":
    app.run(main)
