"""ADM's upsampler from 128x128 to 512x512 pixels, 308,835,270 parameters: 128_512_upsampler.pt.

Diffusion Models Beat GANs (arXiv:2105.05233), section 5 and appendix I. It is trained on images and
their downscaled versions, which needs a folder or tfds dataset of ImageNet. FID and time of this
implementation: not measured yet. The published model:

    python -m scripts.convert --from openai --config configs/adm_128_512.py \
        --model 128_512_upsampler.pt --workdir runs/adm_128_512
    python -m scripts.edit enlarge --workdir runs/adm_128_512 --images small.png --labels tabby
"""

from ml_collections import ConfigDict

from configs import adm256


def get_config() -> ConfigDict:
    config = adm256.get_config()
    config.data.labels = "folders"
    config.data.resolution = 512
    config.model.num_classes = 1000
    config.model.width = 192
    config.model.attention = (32, 16)
    config.model.low_resolution = 128
    config.steps = 1_054_000
    config.sampling.grid_rows = 2
    config.sampling.grid_columns = 2
    return config
