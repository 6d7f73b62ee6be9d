"""ADM's classifier of noisy ImageNet 64x64 images, 65,438,568 parameters. arXiv:2105.05233.

The network and training of OpenAI's 64x64_classifier.pt, by which its program guides
64x64_diffusion.pt with s = 1. Accuracy and time of this implementation: not measured yet.

    python -m scripts.convert --from openai --config configs/adm64_classifier.py \
        --model 64x64_classifier.pt --workdir runs/adm64_classifier
    python -m scripts.sample --workdir runs/adm64 --classifier runs/adm64_classifier --labels tabby
    python -m scripts.train --config configs/adm64_classifier.py --workdir runs/adm64_classifier
"""

from ml_collections import ConfigDict

from configs import imagenet64
from diffusion_jax.config.schema import model_section


def get_config() -> ConfigDict:
    config = imagenet64.get_config()
    config.model = model_section("noisy_classifier", num_classes=1000)
    config.schedule.name = "cosine"
    config.schedule.first_timestep = 0
    config.loss.kind = "cross_entropy"

    config.batch_size = 1024
    config.steps = 300_000
    config.label_dropout = 0.0
    config.optimizer.learning_rate = 6e-4
    config.optimizer.decay = "linear"
    config.optimizer.weight_decay = 0.05
    config.sampling.guidance = 0.0
    return config
