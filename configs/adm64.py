"""ADM on ImageNet 64x64, 295,904,454 parameters. Diffusion Models Beat GANs (arXiv:2105.05233).

The network, chain and loss of OpenAI's 64x64_diffusion.pt, which has no null class and hence is
sampled without guidance. Published FID of that model, "ADM (dropout)" in the paper: 2.07 with 250
steps. FID and time of this implementation: not measured yet. The published model:

    python -m scripts.convert --from openai --model 64x64_diffusion.pt --workdir runs/adm64
    python -m scripts.train --config configs/adm64.py --workdir runs/adm64
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
        qkv_order="new",
        dropout=0.1,
    )
    config.schedule.name = "cosine"
    config.schedule.first_timestep = 0
    config.loss.kind = "hybrid"
    config.loss.vlb_weight = 1.4427  # 0.001 T bits, in nats of one step

    config.batch_size = 2048
    config.steps = 540_000
    config.label_dropout = 0.0
    config.optimizer.learning_rate = 3e-4
    config.optimizer.eps = 1e-8
    config.optimizer.weight_decay = 0.0

    config.sampling.solver = "ddpm"
    config.sampling.ddpm.classifier_rule = "mean"  # published weights of classifiers assume it
    config.sampling.spacing = "sections"
    config.sampling.sections.sections = (250,)
    config.sampling.guidance = 0.0
    return config
