"""Res-Res on ImageNet 64x64 with network, schedule, loss and optimizer of the original.

Blocks of each level: res, res, clsAtn, chnAtn. All is as in gmongaras/Diffusion_models_from_scratch
since May 2024, quirks included, except for the EMA of the parameters, which is added, and the
sampler, which is `ddim`. Imported checkpoints start from this config; for a new model `res_res.py`
is the better choice. Time and FID: not measured yet.

    python -m scripts.train --config configs/original.py --workdir runs/original
"""

from ml_collections import ConfigDict

from configs import imagenet64


def get_config() -> ConfigDict:
    config = imagenet64.get_config()
    config.original_quirks = True
    config.model.blocks = "res,res,clsAtn,chnAtn"
    config.data.flip = False
    config.loss.kind = "original"
    # The grid of the original's sampler: 991, 981, ..., 1.
    config.sampling.stride = 10
    return config
