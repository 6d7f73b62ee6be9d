"""Landscape photographs, 64x64, without classes, as in MyDiffusionModel.

A U-Net with self-attention of 23,332,739 parameters (github.com/Lionelding/MyDiffusionModel), with
its linear schedule, optimizer, EMA and ancestral sampler. Noise is Gaussian, as in the paper;
that program's is uniform. A folder of images is needed (Kaggle's "Landscape Gallery", for example).
45,000 steps are its 500 epochs of 4,319 images. Time and score: not measured yet.

    python -m scripts.train --config configs/landscape64.py --workdir runs/landscape64 \
        --config.data.name=folder:$HOME/landscapes
"""

from ml_collections import ConfigDict

from configs import base
from diffusion_jax.config.schema import model_section


def get_config() -> ConfigDict:
    config = base.get_config()
    config.data.name = "folder:landscapes"
    config.data.resolution = 64
    config.data.crop = "random-resized-crop"
    config.data.shorter_side = 80
    config.data.labels = "none"
    config.data.threads = 8
    config.model = model_section("attention_unet", channels=3)

    config.schedule.name = "linear"
    config.schedule.first_timestep = 0
    config.loss.kind = "simple"
    config.batch_size = 48
    config.steps = 45_000
    config.ema.decay = 0.995
    config.ema.start = 2000

    config.sampling.solver = "ddpm"
    config.sampling.ddpm.variance = "large"
    config.sampling.steps = 1000
    config.sampling.clip = False
    config.sampling.guidance = 0.0
    return config
