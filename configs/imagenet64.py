"""Base of the five ImageNet 64x64 experiments, with published hyperparameters.

The hyperparameters are those of gmongaras/Diffusion_models_from_scratch, with an EMA of the
parameters added. It needs the tfds dataset imagenet_resized/64x64, prepared as array_record.
Blocks: res, clsAtn, chnAtn, as in `res.py`.
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    config = base.get_config()
    config.data.name = "tfds:imagenet_resized/64x64"
    config.data.resolution = 64
    config.data.flip = True
    config.data.threads = 16

    config.model.width = 128
    config.model.levels = 3
    config.model.num_classes = 1000

    config.batch_size = 1024
    config.steps = 600_000
    config.label_dropout = 0.2
    config.optimizer.learning_rate = 3e-4
    config.optimizer.eps = 1e-4  # as published; 1e-8 is the usual value
    config.optimizer.weight_decay = 0.01

    config.sampling.guidance = 4.0
    config.keep_every = 100_000
    return config
