"""EDM2-XS on ImageNet 64x64: the magnitude-preserving U-Net, 124,710,949 parameters.

Analyzing and Improving the Training Dynamics of Diffusion Models (arXiv:2312.02696), configuration
G, with its settings for this resolution. FID and time of this implementation: not measured yet.

    python -m scripts.train --config configs/edm2_xs64.py --workdir runs/edm2_xs64

Power-function EMAs of the widths 0.05 and 0.1 are kept in 16 checkpoints. An EMA of any other width
can be reconstructed from them:

    python -m scripts.average --workdir runs/edm2_xs64 --sigma_rel 0.07 --out runs/edm2_xs64_007
"""

from ml_collections import ConfigDict

from configs import edm64
from diffusion_jax.config.schema import model_section


def get_config() -> ConfigDict:
    config = edm64.get_config()
    config.model = model_section("edm2", num_classes=1000, width=128)
    config.schedule.edm.p_mean = -0.8
    config.schedule.edm.p_std = 1.6

    config.batch_size = 2048
    config.steps = 524_288  # 2^30 images
    config.ema.name = "power"
    config.ema.power.sigma_rel = 0.05
    config.ema.power.second_sigma_rel = 0.1
    config.checkpoint_every = 8192
    config.keep_every = 32_768
    config.optimizer.learning_rate = 0.012
    config.optimizer.warmup_steps = 4883  # 10 million images
    config.optimizer.decay = "inverse_sqrt"
    config.optimizer.decay_steps = 35_000
    config.optimizer.b2 = 0.99

    config.sampling.steps = 32
    config.sampling.heun.s_churn = 0.0
    return config
