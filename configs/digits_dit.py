"""The digits with a small transformer, DiT, in place of the U-Net: patches of 2x2 pixels.

708,388 parameters. `benchmarks.digits_quality` recognizes 599 of 600 digits (3 seeds). A whole run
on a laptop, without a GPU:

    python -m scripts.train --config configs/digits_dit.py --workdir runs/digits_dit
"""

from ml_collections import ConfigDict

from configs import digits


def get_config() -> ConfigDict:
    config = digits.get_config("dit")
    config.model.width = 96
    config.model.depth = 4
    config.model.num_heads = 4
    return config
