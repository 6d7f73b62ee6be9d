"""ADM on ImageNet 128x128, 421,529,606 parameters: OpenAI's 128x128_diffusion.pt.

As `adm64.py`, with a linear chain. Published FID of that model: 5.91 with 250 steps, and 2.97 with
128x128_classifier.pt. A folder or tfds dataset of ImageNet is needed to train it. FID and time of
this implementation: not measured yet. The published model:

    python -m scripts.convert --from openai --config configs/adm128.py \
        --model 128x128_diffusion.pt --workdir runs/adm128
"""

from ml_collections import ConfigDict

from configs import adm64


def get_config() -> ConfigDict:
    config = adm64.get_config()
    config.data.name = "folder:imagenet/train"
    config.data.crop = "center-crop-dhariwal"
    config.data.resolution = 128
    config.model.width = 256
    config.model.multipliers = (1, 1, 2, 3, 4)
    config.model.blocks = 2
    config.model.head_channels = None
    config.model.num_heads = 4
    config.model.qkv_order = "legacy"
    config.model.dropout = 0.0
    config.schedule.name = "linear"
    config.batch_size = 256
    config.steps = 4_360_000
    config.optimizer.learning_rate = 1e-4
    return config
