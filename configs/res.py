"""Res on ImageNet 64x64. Blocks of each level: res, clsAtn, chnAtn.

123,530,231 parameters; a forward pass of one image takes 63.6 GFLOP (62.3 in the original, whose
`clsAtn` mixes nothing). The original trained 6 to 7 days on 8 A100. Time and FID of this
implementation: not measured yet.

    python -m scripts.train --config configs/res.py --workdir runs/res
"""

from ml_collections import ConfigDict

from configs import imagenet64


def get_config() -> ConfigDict:
    config = imagenet64.get_config()
    config.model.blocks = "res,clsAtn,chnAtn"
    return config
