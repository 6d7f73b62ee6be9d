"""A classifier of noisy digits, which guides an unconditional model.

Guidance is by the gradient of log p(digit given noisy image); see docs/solvers.md.

    python -m scripts.train --config configs/digits_unconditional.py --workdir runs/unconditional
    python -m scripts.train --config configs/digits_classifier.py --workdir runs/classifier
    python -m scripts.sample --workdir runs/unconditional --classifier runs/classifier --labels all
"""

from ml_collections import ConfigDict

from configs import digits
from diffusion_jax.config.schema import model_section


def get_config() -> ConfigDict:
    config = digits.get_config("noisy_classifier")
    config.model = model_section(
        "noisy_classifier",
        channels=1,
        num_classes=10,
        width=32,
        multipliers=(1, 2),
        blocks=1,
        attention=(4,),
        head_channels=16,
    )
    config.label_dropout = 0.0
    config.optimizer.weight_decay = 0.05
    config.sampling.guidance = 0.0
    return config
