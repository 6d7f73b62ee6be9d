"""Trains a model, or resumes a run: the same command does both.

python -m scripts.train --config configs/digits.py --workdir runs/digits [--config.seed=1 ...]

Without --config, a run resumes with the config in its workdir. SIGTERM, SIGUSR1 or Ctrl-C end
it after a checkpoint, with exit code 75.
"""

import os
import signal
import sys
from typing import Any

from scripts.cli import early_signals

if __name__ == "__main__":
    early_signals.end_at_once()

from absl import flags

from scripts.cli import app, config_flag, path_flags

config_flag.define(
    "Name or path of the experiment, such as res_res; --config.FIELD=VALUE changes a field."
)
_WORKDIR = path_flags.define("workdir", None, "Folder of the run; made if it does not exist.")
_DRY_RUN = flags.DEFINE_bool("dry_run", False, "Print config and parameter count, and stop.")


def main() -> int:
    import jax

    from diffusion_jax import parallel
    from diffusion_jax.runs.datasets import resolve_experiment
    from diffusion_jax.runs.train import train
    from diffusion_jax.training.logging import LOSS_CURVE, SAMPLES

    signal.signal(signal.SIGINT, signal.default_int_handler)
    _at_signals(_stop)  # until training begins, which handles them itself
    experiment = resolve_experiment(config_flag.value("digits"))
    config = experiment.config
    if _DRY_RUN.value:
        print(describe(experiment))
        return 0
    if _WORKDIR.value is None:
        raise ValueError("--workdir is missing; for example: --workdir runs/my_run")

    workdir = _WORKDIR.value
    parallel.split_cpu(config.cpu_devices, config.batch_size // config.micro_batches)
    try:
        step = int(train(experiment, workdir).step)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("the same command resumes from the last checkpoint") from None
    _at_signals(signal.SIG_IGN)  # one that comes now must not change the exit code
    code = 0 if step >= config.steps else os.EX_TEMPFAIL
    if jax.process_index() > 0:
        return code
    print(f"Samples:    {workdir / SAMPLES}/")
    print(f"Loss curve: {workdir / LOSS_CURVE}")
    print(f"All curves: tensorboard --logdir {workdir}  (pip install tensorboard)")
    if step < config.steps:
        print(f"Interrupted after step {step} of {config.steps}; the same command resumes.")
    return code


def _at_signals(handler: Any) -> None:
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, handler)


def _stop(number: int, frame: Any) -> None:
    _at_signals(signal.SIG_IGN)
    sys.exit(os.EX_TEMPFAIL)


def describe(experiment) -> str:
    """Returns the resolved config, the table of parameters, and their number."""
    import jax
    from clu import parameter_overview

    from diffusion_jax.training.state import init_params

    config = experiment.config
    resolution = config.data.resolution
    params = jax.eval_shape(lambda: init_params(experiment.model, config.seed, resolution))
    table = parameter_overview.get_parameter_overview(params, include_stats=False)
    leaves = jax.tree_util.tree_leaves_with_path(params)
    count = sum(leaf.size for path, leaf in leaves if not path[-1].key.startswith("fixed_"))
    return f"{config.to_json_best_effort(indent=2)}\n{table}\nParameters: {count:,}"


if __name__ == "__main__":
    sys.argv = config_flag.with_config_of_workdir(sys.argv)
    app.run(main)
