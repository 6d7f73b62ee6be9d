"""Share of digits that are recognized, for an unconditional model with classifier guidance.

Trains `configs/digits_unconditional.py` and `configs/digits_classifier.py`, unless they are
trained. Then samples 60 images of each digit at several guidance scales, and prints the share that
a support vector machine, trained on real digits, recognizes as their labels.

    python -m benchmarks.classifier_guidance
"""

import json
from pathlib import Path

import numpy as np
from absl import flags

from benchmarks import digit_classifier
from diffusion_jax.config.experiment import Experiment
from scripts.cli import app

_WORKDIR = flags.DEFINE_string("workdir", "runs/unconditional", "Folder of the unconditional run.")
_CLASSIFIER = flags.DEFINE_string("classifier", "runs/classifier", "Folder of the classifier.")
_SCALES = flags.DEFINE_list("scales", "0,1,2,4,8", "Guidance scales.")
_JSON = flags.DEFINE_string("json", None, "File to write the figures to, too.")


def main() -> None:
    from configs import digits_classifier, digits_unconditional
    from diffusion_jax.runs.train import train
    from diffusion_jax.workdir.parameters import load_params
    from diffusion_jax.workdir.run_files import load_config

    for module, workdir in (
        (digits_unconditional, _WORKDIR.value),
        (digits_classifier, _CLASSIFIER.value),
    ):
        train(Experiment.from_config(module.get_config()), Path(workdir))
    config = load_config(Path(_WORKDIR.value))
    config.sampling.classifier = _CLASSIFIER.value
    svm, accuracy = digit_classifier.fit()
    print(f"Accuracy of the SVM on unseen real digits: {accuracy:.1%}")
    _, params = load_params(Path(_WORKDIR.value), Experiment.from_config(config))
    shares = {}
    for scale in map(float, _SCALES.value):
        config.sampling.classifier_scale = scale
        print(f"Scale {scale:g}:")
        found = digit_classifier.recognized(config, params, svm, per_digit=20, seeds=(0, 1, 2))
        shares[scale] = found
        print(f"  {np.mean(list(found.values())):.1%} are recognized")
    if _JSON.value:
        Path(_JSON.value).write_text(json.dumps(shares, indent=2) + "\n")


if __name__ == "__main__":
    app.run(main)
