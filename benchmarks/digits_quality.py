"""Do the digits that a model draws look like the digits that were asked for?

Draws 20 images of each digit and asks a classifier (a support vector machine of scikit-learn, which
has seen real digits only) what they are: of a run, with its own sampling settings, or of each
solver at an equal number of network evaluations. A run is trained if it is not there yet.

    python -m benchmarks.digits_quality --workdir runs/digits
    python -m benchmarks.digits_quality --parametrisation v --evaluations 20
"""

import json
import time
from pathlib import Path

import numpy as np
from absl import flags

from scripts import cli

_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder of a run of the digits; default: runs/digits, with PARAMETRISATION."
)
_PARAMETRISATION = flags.DEFINE_string(
    "parametrisation", None, "noise, x0, v, velocity or edm: train this one, and try all solvers."
)
_SOLVERS = flags.DEFINE_list("solvers", "ddim,heun,dpmpp_2m", "With --parametrisation.")
_EVALUATIONS = flags.DEFINE_integer("evaluations", 20, "Of the network, for each image.", 2)
_PER_DIGIT = flags.DEFINE_integer("per_digit", 20, "Images of each digit.", 1)
_SEEDS = flags.DEFINE_list("seeds", "0,1,2", "One set of images for each.")
_JSON = flags.DEFINE_string("json", None, "File to write the figures to, too.")

# The schedule that a parametrisation was invented for, where that is not the cosine.
SCHEDULES = {"velocity": "flow", "edm": "edm"}


def main() -> None:
    from diffusion_jax.runs import run_folder, sampling_settings
    from diffusion_jax.runs.trained import load_params

    parametrisation = _PARAMETRISATION.value
    default = f"runs/digits_{parametrisation}" if parametrisation else "runs/digits"
    workdir = Path(_WORKDIR.value or default)
    if parametrisation:
        train(workdir, parametrisation)
    config = run_folder.load(workdir)
    if config.data.name != "digits":
        raise ValueError(f"{workdir} was trained on {config.data.name}, not on the digits")
    model, accuracy = classifier()
    step, params = load_params(workdir, config)
    results = {"step": step, "guidance": config.sampling.guidance, "real_accuracy": accuracy}
    print(f"Classifier on real digits that it has not seen: {accuracy:.1%}")
    if not parametrisation:
        results["asked_for"] = recognised(config, params, model)
    for solver in _SOLVERS.value if parametrisation else ():
        steps = affordable_steps(config, solver)
        sampling_settings.change(config, {"solver": solver, "steps": steps})
        print(f"{parametrisation}, {solver}, {steps} steps:")
        results[solver] = recognised(config, params, model)
    if _JSON.value:
        Path(_JSON.value).write_text(json.dumps(results, indent=2) + "\n")


def train(workdir: Path, parametrisation: str) -> None:
    """Trains configs/digits.py with this parametrisation, unless that has been done."""
    from configs import digits
    from diffusion_jax.runs.train import train

    config = digits.get_config()
    config.parametrisation = parametrisation
    if parametrisation in SCHEDULES:
        config.schedule.name = SCHEDULES[parametrisation]
        config.loss.kind = "simple"  # a continuous schedule has no variational bound
    train(config, workdir)


def affordable_steps(config, solver: str) -> int:
    """As many steps as take at most --evaluations evaluations of the network."""
    from diffusion_jax.runs import build, sampling_settings
    from diffusion_jax.sampling import count_evaluations

    for steps in range(_EVALUATIONS.value, 0, -1):
        sampling_settings.change(config, {"solver": solver, "steps": steps})
        made, schedule = build.make_solver(config), build.make_schedule(config)
        path = made.prepare(build.make_sampling_path(config), schedule)
        if count_evaluations(made, path) <= _EVALUATIONS.value:
            return steps
    raise ValueError(f"{solver} cannot sample with --evaluations={_EVALUATIONS.value}")


def classifier():
    """(classifier fitted to all real digits, its accuracy on real digits it has not seen)."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import cross_val_score
    from sklearn.svm import SVC

    digits = load_digits()
    model = SVC(gamma=0.001)
    accuracy = cross_val_score(model, digits.data, digits.target, cv=5).mean()
    return model.fit(digits.data, digits.target), float(accuracy)


def recognised(config, params, model) -> dict[int, float]:
    """The share of images that the classifier takes for what was asked for, by seed."""
    from diffusion_jax import images, parallel
    from diffusion_jax.runs.generator import Generator

    labels = np.repeat(np.arange(10, dtype=np.int32), _PER_DIGIT.value)
    generator = Generator.from_config(config, batch_size=parallel.round_up(40))
    shares = {}
    for seed in map(int, _SEEDS.value):
        begin = time.monotonic()
        drawn, _ = generator(params, labels, seed=seed)
        seconds = time.monotonic() - begin
        pixels = images.to_uint8(drawn).reshape(len(labels), -1)
        right = model.predict(pixels * (16 / 255)) == labels
        by_digit = right.reshape(10, -1).sum(axis=1)
        shares[seed] = float(right.mean())
        print(
            f"Seed {seed}: {right.sum()} of {len(labels)} are what was asked for "
            f"({right.mean():.1%}; of 0 to 9: {by_digit.tolist()}), {seconds:.1f} s"
        )
    return shares


if __name__ == "__main__":
    cli.run(main)
