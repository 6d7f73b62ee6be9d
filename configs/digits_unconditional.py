"""The digits without their classes: nobody tells the model what to draw.

Blocks: res, chnAtn. It can be asked for a digit through `digits_classifier.py`:

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
