"""Computes another average of the parameters, after training.

python -m scripts.average --workdir runs/edm2 --sigma_rel 0.15 --out runs/edm2_015

The run must have been trained with --config.ema.name=power, best with a second average
(--config.ema.power.second_sigma_rel=0.1), and must have kept checkpoints (--config.keep_every).
"""

from functools import partial
from typing import Any

from absl import flags

from scripts.cli import app, path_flags

_WORKDIR = path_flags.define("workdir", None, "Folder of the run.")
_SIGMA_REL = flags.DEFINE_float(
    "sigma_rel",
    None,
    "Width of the average, relative to the length of training: 0.01 to 0.25.",
    0.01,
    0.25,
)
_CHECKPOINT = flags.DEFINE_integer("checkpoint", None, "Its step; default: the newest.", 1)
_OUT = path_flags.define("out", None, "Folder of the run to write.")


def main() -> None:
    from diffusion_jax.runs.average import reaverage

    workdir, sigma_rel, out = map(_needed, (_WORKDIR, _SIGMA_REL, _OUT))
    saved, misfit = reaverage(
        workdir,
        out,
        sigma_rel=sigma_rel,
        checkpoint=_CHECKPOINT.value,
        progress=partial(app.progress, unit="average"),
    )
    for average in saved:
        print(f"{average.weight:+.4f} of step {average.step}, width {average.sigma_rel:g}")
    print(f"Distance from the requested average: {misfit:.1%}, in L2 of the profiles")
    print(f"Sample images: python -m scripts.sample --workdir {out}")


def _needed(flag: flags.FlagHolder) -> Any:
    if flag.value is None:
        raise ValueError(f"--{flag.name} is missing; see --help")
    return flag.value


if __name__ == "__main__":
    app.run(main)
