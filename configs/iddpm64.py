"""Improved DDPM on ImageNet 64x64 without classes, 121,063,942 parameters.

Improved Denoising Diffusion Probabilistic Models (arXiv:2102.09672): a chain of 4,000 steps, the
cosine schedule, a learned variance and the hybrid loss, as in imagenet64_uncond_100M_1500K.pt of
OpenAI. Published FID of that model: 19.2, after 1.5 million steps. FID and time of this
implementation: not measured yet. The published model:

    python -m scripts.convert --from openai --config configs/iddpm64.py \
        --model imagenet64_uncond_100M_1500K.pt --workdir runs/iddpm64
    python -m scripts.train --config configs/iddpm64.py --workdir runs/iddpm64

The model with classes, 273,049,350 parameters, was trained with other options, too:
--config.model.num_classes=1000 --config.model.width=192 --config.label_dropout=0
--config.schedule.rescale_timesteps=False --config.loss.vlb_weight=1.4427
--config.batch_size=2048 --config.steps=250000 --config.optimizer.learning_rate=3e-4.
"""

from ml_collections import ConfigDict

from configs import imagenet64
from diffusion_jax.config.schema import model_section


def get_config() -> ConfigDict:
    config = imagenet64.get_config()
    config.model = model_section("adm", width=128, attention=(16, 8), resample_blocks=False)
    config.schedule.name = "cosine"
    config.schedule.num_steps = 4000
    config.schedule.first_timestep = 0
    config.schedule.rescale_timesteps = True
    config.loss.kind = "hybrid"
    config.loss.vlb_weight = 5.7708  # 0.001 T bits, in nats of one step

    config.data.flip = False
    config.batch_size = 128
    config.steps = 1_500_000
    config.optimizer.learning_rate = 1e-4
    config.optimizer.eps = 1e-8
    config.optimizer.weight_decay = 0.0

    config.sampling.solver = "ddpm"
    config.sampling.spacing = "sections"
    config.sampling.sections.sections = (250,)
    config.sampling.guidance = 0.0
    return config
