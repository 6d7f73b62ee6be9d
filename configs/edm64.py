"""EDM on ImageNet 64x64: ADM's U-Net under EDM's preconditioning, 295,899,267 parameters.

Elucidating the Design Space of Diffusion-Based Generative Models (arXiv:2206.00364), with its
published settings: batches of 4,096, 2,500 million images, an EMA with a half-life of 50
million, and Heun's method with churn. Published FID of edm-imagenet-64x64-cond-adm.pkl: 1.36 with
256 steps. FID and time of this implementation: not measured yet. The published model:

    python -m scripts.convert --from edm --workdir runs/edm64 \
        --model edm-imagenet-64x64-cond-adm.pkl
    python -m scripts.train --config configs/edm64.py --workdir runs/edm64
"""

from ml_collections import ConfigDict

from configs import imagenet64
from diffusion_jax.config.schema import model_section


def get_config() -> ConfigDict:
    config = imagenet64.get_config()
    config.model = model_section(
        "adm",
        num_classes=1000,
        width=192,
        attention=(32, 16, 8),
        head_channels=64,
        qkv_order="interleaved",
        smallest_group=4,
        learn_variance=False,
        dropout=0.1,
    )
    config.schedule.name = "edm"
    config.parameterization.name = "edm"
    config.loss.kind = "simple"
    config.loss.weight = "edm"

    config.data.flip = False
    config.batch_size = 4096
    config.steps = 610_352
    config.label_dropout = 0.0
    config.ema.name = "half_life"
    config.ema.half_life.images = 50e6
    config.optimizer.learning_rate = 1e-4
    config.optimizer.warmup_steps = 2441  # 10 million images
    config.optimizer.eps = 1e-8
    config.optimizer.weight_decay = 0.0

    config.sampling.solver = "heun"
    config.sampling.steps = 256
    config.sampling.heun.s_churn = 40.0
    config.sampling.heun.s_tmin = 0.05
    config.sampling.heun.s_tmax = 50.0
    config.sampling.heun.s_noise = 1.003
    config.sampling.clip = False
    config.sampling.guidance = 0.0
    return config
