"""ADM on ImageNet 512x512, 558,997,638 parameters: OpenAI's 512x512_diffusion.pt.

As `adm256.py`, with classes, and half the channels at 512x512. Published FID of that model: 23.24
with 250 steps, 7.72 with 512x512_classifier.pt. FID and time of this implementation: not measured
yet. The published model:

    python -m scripts.convert --from openai --config configs/adm512.py \
        --model 512x512_diffusion.pt --workdir runs/adm512
"""

from ml_collections import ConfigDict

from configs import adm256


def get_config() -> ConfigDict:
    config = adm256.get_config()
    config.data.labels = "folders"
    config.data.resolution = 512
    config.model.num_classes = 1000
    config.model.multipliers = (0.5, 1, 1, 2, 2, 4, 4)
    config.steps = 1_940_000
    config.sampling.grid_rows = 2
    config.sampling.grid_columns = 2
    return config
