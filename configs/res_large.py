"""Res-Large on ImageNet 64x64. Blocks of each level: res, clsAtn, chnAtn; width 192.

269,077,175 parameters; a forward pass of one image takes 143.2 GFLOP (139.9 in the original, whose
`clsAtn` mixes nothing). The original trained about 8 days on 8 A100. Time and FID of this
implementation: not measured yet.

    python -m scripts.train --config configs/res_large.py --workdir runs/res_large
"""

from ml_collections import ConfigDict

from configs import imagenet64


def get_config() -> ConfigDict:
    config = imagenet64.get_config()
    config.model.blocks = "res,clsAtn,chnAtn"
    config.model.width = 192
    return config
