"""Res-Res-Atn on ImageNet 64x64. Blocks of each level: res, res, clsAtn, atn, chnAtn.

212,930,915 parameters; a forward pass of one image takes 120.1 GFLOP (118.9 in the original, whose
`clsAtn` mixes nothing). The original trained about 8 days on 8 A100. Time and FID of this
implementation: not measured yet.

    python -m scripts.train --config configs/res_res_atn.py --workdir runs/res_res_atn
"""

from ml_collections import ConfigDict

from configs import imagenet64


def get_config() -> ConfigDict:
    config = imagenet64.get_config()
    config.model.blocks = "res,res,clsAtn,atn,chnAtn"
    return config
