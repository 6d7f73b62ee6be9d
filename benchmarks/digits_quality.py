"""Share of sampled digits that a classifier recognizes as their labels.

Samples 20 images of each digit, and classifies them with a support vector machine (scikit-learn)
trained on real digits. With --workdir, a run is measured with its own sampling settings. With
--parameterization, a run is trained if necessary, and each solver is measured at an equal number of
network evaluations.

    python -m benchmarks.digits_quality --workdir runs/digits
    python -m benchmarks.digits_quality --parameterization v --evaluations 20
"""

import json
from pathlib import Path

from absl import flags

from benchmarks import digit_classifier
from diffusion_jax.config.experiment import Experiment
from scripts.cli import app

_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder of a run of the digits; default: runs/digits[_PARAMETERIZATION]."
)
_PARAMETERIZATION = flags.DEFINE_string(
    "parameterization", None, "eps, x0, v, velocity or edm: train it, and measure all solvers."
)
_SOLVERS = flags.DEFINE_list("solvers", "ddim,heun,dpmpp_2m", "With --parameterization.")
_EVALUATIONS = flags.DEFINE_integer("evaluations", 20, "Network evaluations for each image.", 2)
_PER_DIGIT = flags.DEFINE_integer("per_digit", 20, "Images of each digit.", 1)
_SEEDS = flags.DEFINE_list("seeds", "0,1,2", "One set of images for each.")
_JSON = flags.DEFINE_string("json", None, "File to write the figures to, too.")

# The schedule that a parameterization is meant for, if not the cosine schedule.
SCHEDULES = {"velocity": "flow", "edm": "edm"}


def main() -> None:
    from diffusion_jax.config import overrides
    from diffusion_jax.workdir.parameters import load_params
    from diffusion_jax.workdir.run_files import load_config

    parameterization = _PARAMETERIZATION.value
    default = f"runs/digits_{parameterization}" if parameterization else "runs/digits"
    workdir = Path(_WORKDIR.value or default)
    if parameterization:
        train(workdir, parameterization)
    config = load_config(workdir)
    if config.data.name != "digits":
        raise ValueError(f"{workdir} was trained on {config.data.name}, not on the digits")
    model, accuracy = digit_classifier.fit()
    step, params = load_params(workdir, Experiment.from_config(config))
    results = {"step": step, "guidance": config.sampling.guidance, "real_accuracy": accuracy}
    print(f"Accuracy of the classifier on unseen real digits: {accuracy:.1%}")
    if not parameterization:
        results["recognized"] = digit_classifier.recognized(
            config, params, model, per_digit=_PER_DIGIT.value, seeds=map(int, _SEEDS.value)
        )
    for solver in _SOLVERS.value if parameterization else ():
        steps = affordable_steps(config, solver)
        overrides.change_sampling(config, {"solver": solver, "steps": steps})
        print(f"{parameterization}, {solver}, {steps} steps:")
        results[solver] = digit_classifier.recognized(
            config, params, model, per_digit=_PER_DIGIT.value, seeds=map(int, _SEEDS.value)
        )
    if _JSON.value:
        Path(_JSON.value).write_text(json.dumps(results, indent=2) + "\n")


def train(workdir: Path, parameterization: str) -> None:
    """Trains configs/digits.py with this parameterization, unless it is trained."""
    from configs import digits
    from diffusion_jax.runs.train import train

    config = digits.get_config()
    config.parameterization.name = parameterization
    if parameterization in SCHEDULES:
        config.schedule.name = SCHEDULES[parameterization]
        config.loss.kind = "simple"  # a continuous schedule has no variational bound
    train(Experiment.from_config(config), workdir)


def affordable_steps(config, solver: str) -> int:
    """Returns the largest number of steps within --evaluations evaluations of the network."""
    from diffusion_jax.config import overrides
    from diffusion_jax.sampling import count_evaluations

    for steps in range(_EVALUATIONS.value, 0, -1):
        overrides.change_sampling(config, {"solver": solver, "steps": steps})
        experiment = Experiment.from_config(config)
        settings = experiment.sampling
        made = settings.solver(**settings.options)
        evaluations = count_evaluations(made, settings.sampling_schedule, experiment.schedule)
        if evaluations <= _EVALUATIONS.value:
            return steps
    raise ValueError(f"{solver} cannot sample with --evaluations={_EVALUATIONS.value}")


if __name__ == "__main__":
    app.run(main)
