"""The handwritten digits that ship with scikit-learn: 1,797 real images of 8x8 pixels, 10 classes.

Blocks: res, clsAtn, chnAtn. A whole run on a laptop, without a GPU:

    python -m scripts.train --config configs/digits.py --workdir runs/digits

Any other network by its name, with its constructor's defaults (`digits_dit.py` is a small DiT):

    python -m scripts.train --config configs/digits.py:dit --workdir runs/dit --config.model.depth=4
"""

from ml_collections import ConfigDict

from configs import base
from diffusion_jax.config.experiment import make_model
from diffusion_jax.config.schema import model_section


def get_config(network: str = "unet") -> ConfigDict:
    config = base.get_config()
    config.data.name = "digits"
    config.data.split = "all"
    config.data.resolution = 8
    config.data.threads = 1

    if network == "unet":
        config.model.width = 24
        config.model.levels = 1
        config.model.time_dim = 128
        config.model.label_dim = 128
        config.steps = 1500
        config.optimizer.learning_rate = 3e-3
    else:
        config.model = model_section(network, channels=1, num_classes=10)
        model = make_model(config)
        if model.classifies:
            config.loss.kind = "cross_entropy"
        elif not model.learns_variance:
            config.loss.kind = "simple"
        config.steps = 2000
        config.optimizer.learning_rate = 1e-3
    config.model.channels = 1
    config.model.num_classes = 10

    config.batch_size = 64
    config.cpu_devices = 2
    config.ema.decay = 0.995
    config.optimizer.warmup_steps = None  # follows config.steps
    config.optimizer.decay = "cosine"
    config.optimizer.clip_norm = 1.0

    config.sampling.steps = 50
    config.sampling.grid_rows = 10
    config.sampling.grid_columns = 10
    config.log_every = 20
    config.sample_every = 500
    config.checkpoint_every = 500
    return config
