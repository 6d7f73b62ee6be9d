"""Do the digits that a model draws look like the digits that were asked for?

Draws 20 images of each digit with the run's own sampling settings, and asks a classifier (a support
vector machine of scikit-learn, which has seen real digits only) what they are.

    python -m benchmarks.digits_quality --workdir runs/digits
"""

import json
import time
from pathlib import Path

import numpy as np
from absl import flags

from scripts import cli

_WORKDIR = flags.DEFINE_string("workdir", "runs/digits", "Folder of a run of configs/digits.py.")
_PER_DIGIT = flags.DEFINE_integer("per_digit", 20, "Images of each digit.", 1)
_SEEDS = flags.DEFINE_list("seeds", "0,1,2", "One set of images for each.")
_JSON = flags.DEFINE_string("json", None, "File to write the figures to, too.")


def classifier():
    """(classifier fitted to all real digits, its accuracy on real digits it has not seen)."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import cross_val_score
    from sklearn.svm import SVC

    digits = load_digits()
    model = SVC(gamma=0.001)
    accuracy = cross_val_score(model, digits.data, digits.target, cv=5).mean()
    return model.fit(digits.data, digits.target), float(accuracy)


def main() -> None:
    from diffusion_jax import images, parallel
    from diffusion_jax.runs import configuration
    from diffusion_jax.runs.generator import Generator, load_params

    workdir = Path(_WORKDIR.value)
    config = configuration.load(workdir)
    if config.data.name != "digits":
        raise ValueError(f"{workdir} was trained on {config.data.name}, not on the digits")
    model, accuracy = classifier()
    step, params = load_params(workdir, config)
    labels = np.repeat(np.arange(10, dtype=np.int32), _PER_DIGIT.value)
    generator = Generator.from_config(config, batch_size=parallel.round_up(40))

    results = {"step": step, "guidance": config.sampling.guidance, "real_accuracy": accuracy}
    print(f"Classifier on real digits that it has not seen: {accuracy:.1%}")
    results["asked_for"] = {}
    for seed in map(int, _SEEDS.value):
        begin = time.monotonic()
        drawn, _ = generator(
            params,
            labels,
            seed=seed,
            guidance_scale=config.sampling.guidance,
            eta=config.sampling.eta,
        )
        seconds = time.monotonic() - begin
        pixels = images.to_uint8(drawn).reshape(len(labels), -1)
        right = model.predict(pixels * (16 / 255)) == labels
        by_digit = right.reshape(10, -1).sum(axis=1)
        results["asked_for"][seed] = float(right.mean())
        print(
            f"Seed {seed}: {right.sum()} of {len(labels)} are what was asked for "
            f"({right.mean():.1%}; of 0 to 9: {by_digit.tolist()}), {seconds:.1f} s"
        )
    if _JSON.value:
        Path(_JSON.value).write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    cli.run(main)
