"""Your own folder of images, with its sub-folders as classes, or without classes.

    python -m scripts.data check --config folder:small \
        --config.data.name=folder:$HOME/photos
    python -m scripts.train --config folder:small --workdir runs/photos \
        --config.data.name=folder:$HOME/photos

`folder:small` is for a laptop: 32x32, a small ADM U-Net, 21 minutes at 63 images/s on two CPU
cores, besides the grids.
`folder` is for a GPU: 64x64, 200,000 steps of the blocks res, chnAtn, without classes unless
--config.model.num_classes=None --config.model.blocks=res,clsAtn,chnAtn. Gray:
--config.model.channels=1. Scores: not measured.
"""

from ml_collections import ConfigDict

from configs import base
from diffusion_jax.config.schema import model_section


def get_config(size: str = "") -> ConfigDict:
    config = base.get_config()
    config.data.name = "folder:images"
    config.data.flip = True
    config.data.upright = True
    config.data.srgb = True
    config.data.threads = 8
    config.model.blocks = "res,chnAtn"
    config.sampling.guidance = 0.0
    config.steps = 200_000
    config.optimizer.warmup_steps = 1000
    config.optimizer.clip_norm = 1.0
    if size == "small":
        _make_small(config)
    elif size:
        raise ValueError(f"folder:{size} is unknown; there are folder and folder:small")
    return config


def _make_small(config: ConfigDict) -> None:
    config.data.resolution = 32
    config.data.threads = 1
    config.data.convert = True
    config.model = model_section(
        "adm",
        num_classes=None,
        width=32,
        multipliers=(0.5, 1, 3),
        blocks=1,
        attention=(8,),
        head_channels=32,
        smallest_group=4,
        learned_null=True,
        learn_variance=False,
    )
    config.parameterization.name = "v"
    config.loss.kind = "simple"
    config.label_dropout = 0.1

    config.steps = 2500
    config.batch_size = 32
    config.ema.decay = 0.995
    config.optimizer.learning_rate = 1e-3
    config.optimizer.warmup_steps = 100
    config.optimizer.decay = "cosine"

    config.sampling.steps = 50
    config.sampling.guidance = 1.0
    config.log_every = 20
    config.early_sample_minutes = 2.0
    config.sample_every = 500
    config.checkpoint_every = 500
