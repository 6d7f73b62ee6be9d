"""Res-Conv on ImageNet 64x64. Blocks of each level: res, conv, clsAtn, chnAtn.

144,130,269 parameters, 72.3 GFLOP a forward pass of one image. The original trained 6 to 7 days on
8 A100; time and FID of this implementation: not measured yet.

    python -m scripts.train --config configs/res_conv.py --workdir runs/res_conv
"""

from ml_collections import ConfigDict

from configs import imagenet64


def get_config() -> ConfigDict:
    config = imagenet64.get_config()
    config.model.blocks = "res,conv,clsAtn,chnAtn"
    return config
