"""Small datasets that tfds prepares: cifar10, mnist, emnist/letters, emnist/digits.

    python -m scripts.data tfds --name cifar10
    python -m scripts.train --config configs/tfds.py:cifar10 --workdir runs/cifar10

Blocks: res, clsAtn, chnAtn. Time and score: not measured yet.
"""

from ml_collections import ConfigDict

from configs import base

# Side and channels of the images, classes, True if a mirrored image keeps its class.
DATASETS = {
    "cifar10": (32, 3, 10, True),
    "mnist": (28, 1, 10, False),
    "emnist/letters": (28, 1, 26, False),
    "emnist/digits": (28, 1, 10, False),
}


def get_config(name: str = "cifar10") -> ConfigDict:
    if name not in DATASETS:
        raise ValueError(f"Unknown dataset {name!r}; known: {', '.join(DATASETS)}")
    config = base.get_config()
    resolution, channels, classes, flip = DATASETS[name]
    config.data.name = f"tfds:{name}"
    config.data.resolution = resolution
    config.data.flip = flip
    config.model.channels = channels
    config.model.num_classes = classes
    config.model.width = 128 if channels == 3 else 64
    config.model.levels = 2
    config.steps = 100_000
    config.label_dropout = 0.1
    config.optimizer.warmup_steps = 1000
    config.optimizer.clip_norm = 1.0
    config.sampling.grid_rows = 10
    return config
