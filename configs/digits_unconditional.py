"""The digits without their classes: an unconditional model.

Blocks: res, chnAtn. `digits_classifier.py` can guide it to a digit:

    python -m scripts.train --config configs/digits_unconditional.py --workdir runs/unconditional
"""

from ml_collections import ConfigDict

from configs import digits


def get_config() -> ConfigDict:
    config = digits.get_config()
    config.model.blocks = "res,chnAtn"
    config.model.num_classes = 0
    config.label_dropout = 0.0
    config.sampling.guidance = 0.0
    return config
