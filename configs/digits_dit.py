"""The digits with a small transformer, DiT, in place of the U-Net: patches of 2x2 pixels.

1,3 million parameters. A whole run on a laptop, without a GPU:

    python -m scripts.train --config configs/digits_dit.py --workdir runs/digits_dit
"""

from ml_collections import ConfigDict

from configs import digits
from diffusion_jax.runs.sections import model_section


def get_config() -> ConfigDict:
    config = digits.get_config()
    config.model = model_section(
        "dit", channels=1, num_classes=10, patch_size=2, width=96, depth=4, num_heads=4
    )
    config.loss.kind = "simple"
    return config
