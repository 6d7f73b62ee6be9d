"""EDM on CIFAR-10: DDPM++ under EDM's preconditioning, 55,735,299 parameters, ten classes.

Elucidating the Design Space of Diffusion-Based Generative Models (arXiv:2206.00364), table 7, but
without its augmentations. NCSN++, 56,400,643 parameters: --config.model.embedding=fourier
--config.model.noise_multiple=2 --config.model.encoder=residual --config.model.taps=1,3,3,1.
Published FID of edm-cifar10-32x32-cond-vp.pkl, trained with the augmentations: 1.79 with 18 steps.
FID and time of this implementation: not measured yet. The published model:

    python -m scripts.convert --from edm --config configs/edm_cifar10.py \
        --model edm-cifar10-32x32-cond-vp.pkl --workdir runs/edm_cifar10
    python -m scripts.train --config configs/edm_cifar10.py --workdir runs/edm_cifar10
"""

from ml_collections import ConfigDict

from configs import edm64
from diffusion_jax.config.schema import model_section


def get_config() -> ConfigDict:
    config = edm64.get_config()
    config.data.name = "tfds:cifar10"
    config.data.resolution = 32
    config.data.flip = True
    config.model = model_section("song", num_classes=10, augment_dim=9, dropout=0.13)

    config.batch_size = 512
    config.steps = 390_625  # 200 million images
    config.ema.half_life.images = 0.5e6
    config.optimizer.learning_rate = 1e-3
    config.optimizer.warmup_steps = 19_531

    config.sampling.steps = 18
    config.sampling.heun.s_churn = 0.0
    return config
