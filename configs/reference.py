"""Res-Res on ImageNet 64x64, exactly as gmongaras/Diffusion_models_from_scratch computes it.

Blocks of each level: res, res, clsAtn, chnAtn. Network, schedule, loss and optimizer are the
original's with all their quirks, as of 2024. Imported checkpoints start from this config; for a new
model `res_res.py` is the better choice.

    python -m scripts.train --config configs/reference.py --workdir runs/reference
"""

from ml_collections import ConfigDict

from configs import imagenet64


def get_config() -> ConfigDict:
    config = imagenet64.get_config()
    config.behaviour = "reference"
    config.model.blocks = "res,res,clsAtn,chnAtn"
    config.data.flip = False
    config.loss.kind = "reference"
    config.loss.vlb_weight = 0.001
    config.optimizer.b1 = 0.9
    config.optimizer.b2 = 0.999
    # The grid of the original's sampler: 991, 981, ..., 1.
    config.sampling.stride = 10
    return config
