"""ADM on ImageNet 256x256 without classes, 552,814,086 parameters: 256x256_diffusion_uncond.pt.

As `adm128.py`. With --config.model.num_classes=1000, the 553,838,086 parameters of
256x256_diffusion.pt. Published FID of the model without classes: 26.21; of the other: 10.94, and
4.59 with 256x256_classifier.pt. FID and time of this implementation: not measured yet. The
published model:

    python -m scripts.convert --from openai --config configs/adm256.py \
        --model 256x256_diffusion_uncond.pt --workdir runs/adm256
"""

from ml_collections import ConfigDict

from configs import adm128


def get_config() -> ConfigDict:
    config = adm128.get_config()
    config.data.labels = "none"
    config.data.resolution = 256
    config.model.num_classes = 0
    config.model.multipliers = (1, 1, 2, 2, 4, 4)
    config.model.head_channels = 64
    config.steps = 1_980_000
    return config
