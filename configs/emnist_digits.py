"""Handwritten digits, EMNIST, 28x28: `emnist_letters.py` with ten classes.

17,985,346 parameters, 3,000 steps as in nice-diffusion. Its own model of digits was trained and
sampled without a null class, 17,985,090 parameters: --config.model.learned_null=False
--config.label_dropout=0 --config.sampling.guidance=0. Time and score: not measured yet.

    python -m scripts.train --config configs/emnist_digits.py --workdir runs/emnist_digits
"""

from ml_collections import ConfigDict

from configs import emnist_letters


def get_config() -> ConfigDict:
    config = emnist_letters.get_config()
    config.data.name = "tfds:emnist/digits"
    config.model.num_classes = 10
    config.steps = 3000
    config.sampling.grid_rows = 10
    config.sample_every = 500
    return config
