"""Res-Conv on ImageNet 64x64. Blocks of each level: res, conv, clsAtn, chnAtn.

144,130,269 parameters; a forward pass of one image takes 73.6 GFLOP (72.3 in the original, whose
`clsAtn` mixes nothing). The original trained 6 to 7 days on 8 A100. Time and FID of this
implementation: not measured yet.

    python -m scripts.train --config configs/res_conv.py --workdir runs/res_conv
"""

from ml_collections import ConfigDict

from configs import imagenet64


def get_config() -> ConfigDict:
    config = imagenet64.get_config()
    config.model.blocks = "res,conv,clsAtn,chnAtn"
    return config
