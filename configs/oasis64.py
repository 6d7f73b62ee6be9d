"""Gray slices of brains, 64x64, as in the OASIS system of the PatternFlow collection.

A plain U-Net of 31,140,577 parameters (s4583222_Solution in shakes76/PatternFlow), a chain of 600
steps and the absolute error. Its norms are group norms here, which do not depend on the other
images of a batch; batch norm has as many parameters. --config.model.channels=3 reads the images
in RGB, as that program does. A folder with the PNGs of OASIS is needed; segmentations (seg in their
names) are left out. 36,285 steps are its 205 epochs. Time and score: not measured yet.

    python -m scripts.train --config configs/oasis64.py --workdir runs/oasis64 \
        --config.data.name=folder:$HOME/keras_png_slices_data
"""

from ml_collections import ConfigDict

from configs import base
from diffusion_jax.config.schema import model_section


def get_config() -> ConfigDict:
    config = base.get_config()
    config.data.name = "folder:keras_png_slices_data"
    config.data.resolution = 64
    config.data.crop = "stretch"
    config.data.exclude = "*seg*"
    config.data.labels = "none"
    config.data.flip = True
    config.data.drop_last = True
    config.data.threads = 8
    config.model = model_section("plain_unet", channels=1)

    config.schedule.name = "linear"
    config.schedule.num_steps = 600
    config.schedule.first_timestep = 0
    config.loss.kind = "simple"
    config.loss.error = "absolute"
    config.batch_size = 64
    config.steps = 36_285
    config.optimizer.learning_rate = 1e-4
    config.optimizer.weight_decay = 0.0  # Adam

    config.sampling.solver = "ddpm"
    config.sampling.ddpm.variance = "small"
    config.sampling.steps = 600
    config.sampling.clip = False
    config.sampling.guidance = 0.0
    return config
