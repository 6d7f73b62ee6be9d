"""Gray slices of brains, 128x128: `oasis64.py` at the resolution of that system's final models.

Time and score: not measured yet.

    python -m scripts.train --config configs/oasis128.py --workdir runs/oasis128 \
        --config.data.name=folder:$HOME/keras_png_slices_data
"""

from ml_collections import ConfigDict

from configs import oasis64


def get_config() -> ConfigDict:
    config = oasis64.get_config()
    config.data.resolution = 128
    return config
