"""Handwritten letters, EMNIST, 28x28: nice-diffusion's model of 17,989,442 parameters.

ADM's U-Net with 26 classes and a null class that has an embedding of its own
(github.com/edogariu/nice-diffusion). 20,000 steps as there. Labels are dropped for each image
separately; there, for a whole batch. Time and score: not measured yet.

    python -m scripts.data tfds --name emnist/letters
    python -m scripts.train --config configs/emnist_letters.py --workdir runs/emnist_letters
    python -m scripts.sample --workdir runs/emnist_letters --labels a,b,c
"""

from ml_collections import ConfigDict

from configs import base
from diffusion_jax.config.schema import model_section


def get_config() -> ConfigDict:
    config = base.get_config()
    config.data.name = "tfds:emnist/letters"
    config.data.resolution = 28
    config.data.threads = 8
    config.model = model_section(
        "adm",
        channels=1,
        num_classes=26,
        width=64,
        multipliers=(1, 2, 4),
        blocks=2,
        attention=(14, 7),
        num_heads=4,
        qkv_order="new",
        learned_null=True,
        dropout=0.05,
    )
    config.schedule.name = "cosine"
    config.schedule.first_timestep = 0
    config.loss.kind = "hybrid"
    config.loss.vlb_weight = 1.4427  # 0.001 T bits, in nats of one step

    config.batch_size = 128
    config.steps = 20_000
    config.label_dropout = 0.02
    config.optimizer.learning_rate = 1.6e-4
    config.optimizer.weight_decay = 1e-3

    config.sampling.solver = "ddpm"
    config.sampling.spacing = "centered"
    config.sampling.steps = 25
    config.sampling.guidance = 0.8
    config.sampling.grid_rows = 26
    config.sample_every = 2000
    return config
