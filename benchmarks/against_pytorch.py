"""Speed of the network and the training step, compared with the same ones in PyTorch.

python -m benchmarks.against_pytorch --config configs/res_res.py --config.model.width=32 \
    --config.model.levels=2 --batch 8
python -m benchmarks.against_pytorch --config configs/res_res.py --batch 32 \
    --dtype bfloat16 --compile

Each side has its own process. Blocks of calls alternate, and medians are reported. PyTorch is
measured in the faster of both image layouts. Requirements: pip install -r
benchmarks/requirements_torch.txt
"""

import importlib.util
import json
import os
from pathlib import Path
from typing import Any

from absl import flags

from benchmarks import measure
from benchmarks.sides import PROGRAMS, Side
from diffusion_jax.config.experiment import Experiment
from scripts.cli import app

COMPILE = flags.DEFINE_bool("compile", False, "Measure torch.compile, too; needs a C++ compiler.")
flags.set_default(measure.DTYPE, "float32")


def main() -> None:
    if importlib.util.find_spec("torch") is None:
        raise ValueError(
            "PyTorch is not installed; type: pip install -r benchmarks/requirements_torch.txt"
        )
    from benchmarks import pytorch_unet

    config = measure.config_from_flags().copy_and_resolve_references()
    Experiment.from_config(config)
    pytorch_unet.check(config)
    # JAX would reserve three quarters of a GPU's memory.
    os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.4")
    names = ["JAX", "PyTorch", *(["PyTorch compiled"] if COMPILE.value else [])]
    sides = [Side.start(name, config) for name in names]
    figures = {"config": measure.describe(config), "sides": {}, "ratios": {}}
    try:
        for program in PROGRAMS:
            for side in sides:
                side.prepare(program)
            for _ in range(measure.BLOCKS.value):
                for side in sides:
                    side.measure(program, measure.CALLS.value)
            figures["sides"] = {side.name: side_figures(side, config.batch_size) for side in sides}
            figures["ratios"][program] = ratios(sides, program)
            show(sides, program, config.batch_size)
            if measure.JSON.value:
                Path(measure.JSON.value).write_text(json.dumps(figures, indent=2) + "\n")
    finally:
        for side in sides:
            side.stop()


def side_figures(side: Side, batch: int) -> dict[str, Any]:
    """Returns the figures of a side, for JSON."""
    programs = {
        program: {
            "seconds_per_call": side.median(program),
            "seconds_per_call_of_each_block": blocks,
            "images_per_second": batch / side.median(program),
            "seconds_to_prepare": side.first[program],
        }
        for program, blocks in side.seconds.items()
    }
    return {**side.about, "programs": programs}


def ratios(sides: list[Side], program: str) -> dict[str, float]:
    """Computes how many times as fast as the other sides JAX is."""
    ours, *others = sides
    return {other.name: other.median(program) / ours.median(program) for other in others}


def show(sides: list[Side], program: str, batch: int) -> None:
    """Prints a line for each side."""
    found = ratios(sides, program)
    for side in sides:
        seconds, about = side.median(program), side.about
        layouts = about.get("seconds_by_layout", {}).get(program, {})
        layout = f", {min(layouts, key=layouts.get)}" if layouts else ""
        ratio = f"   JAX {found[side.name]:.2f}x" if side.name in found else ""
        print(
            f"{program:>8}  {side.name:16}  {1e3 * seconds:9.1f} ms"
            f"  {batch / seconds:9.2f} images/s{ratio}"
            f"   ({about['version']}, {about['device']}{layout})",
            flush=True,
        )


if __name__ == "__main__":
    app.run(main)
