"""CIFAR-10 at 64x64 in a folder for each class, as in MyDiffusionModel.

As `landscape64.py`, with ten classes (23,335,299 parameters), a label dropout of 0.1, and
classifier-free guidance w = 2 (its scale 3). It needs a folder with the sub-folders airplane,
automobile, .. truck (Kaggle's "CIFAR10-64", for example). 1,042,000 steps are its 1,000 epochs.
Time and score: not measured yet.

    python -m scripts.train --config configs/cifar10_64.py --workdir runs/cifar10_64 \
        --config.data.name=folder:$HOME/cifar10-64/train
"""

from ml_collections import ConfigDict

from configs import landscape64


def get_config() -> ConfigDict:
    config = landscape64.get_config()
    config.data.name = "folder:cifar10-64/train"
    config.data.labels = "folders"
    config.model.num_classes = 10
    config.label_dropout = 0.1
    config.steps = 1_042_000
    config.sampling.guidance = 2.0
    return config
