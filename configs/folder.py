"""Your own folder of images, without classes: a 64x64 model of them.

    python -m scripts.prepare_data check --config configs/folder.py \
        --config.data.name=folder:$HOME/photos
    python -m scripts.train --config configs/folder.py --workdir runs/photos \
        --config.data.name=folder:$HOME/photos

Blocks: res, chnAtn. With classes, the names of the sub-folders: --config.model.num_classes=10
--config.model.blocks=res,clsAtn,chnAtn. Grey: --config.model.channels=1. Time and score: not
measured yet.
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    config = base.get_config()
    config.data.name = "folder:images"
    config.data.flip = True
    config.data.threads = 8
    config.model.blocks = "res,chnAtn"
    config.sampling.guidance = 0.0
    config.steps = 200_000
    config.optimizer.warmup_steps = 1000
    config.optimizer.clip_norm = 1.0
    return config
