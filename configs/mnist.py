"""MNIST: 60,000 handwritten digits of 28x28 pixels, ten classes. A small ADM U-Net.

    python -m scripts.prepare_data mnist
    python -m scripts.train --config configs/mnist.py --workdir runs/mnist

TIME
"""

from ml_collections import ConfigDict

from configs import folder


def get_config() -> ConfigDict:
    config = folder.get_config("small")
    config.data.name = "mnist"
    config.data.resolution = 28
    config.data.convert = False
    config.data.flip = False
    config.model.channels = 1
    config.model.num_classes = 10
    config.model.multipliers = "0.5,1,2"
    config.model.attention = "7"

    config.steps = 3000
    config.batch_size = 32
    config.sampling.grid_rows = 10
    config.sampling.grid_columns = 10
    return config
