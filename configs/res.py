"""Res on ImageNet 64x64. Blocks of each level: res, clsAtn, chnAtn.

123,530,231 parameters, 62.3 GFLOP a forward pass of one image. The original trained 6 to 7 days on
8 A100; time and FID of this implementation: not measured yet.

    python -m scripts.train --config configs/res.py --workdir runs/res
"""

from ml_collections import ConfigDict

from configs import imagenet64


def get_config() -> ConfigDict:
    config = imagenet64.get_config()
    config.model.blocks = "res,clsAtn,chnAtn"
    return config
