"""EDM2-S on ImageNet 64x64: 280,209,381 parameters. As `edm2_xs64.py`, but wider.

Published FID of edm2-img64-s-1073741-0.075.pkl: 1.58. Published FID of the EMA of width 0.045,
guided by a shorter training of EDM2-XS: 1.01 (arXiv:2406.02507). FID and time of this
implementation: not measured yet. These two models, one guided by the other:

    python -m scripts.convert --from edm2 --model edm2-img64-s-1073741-0.045.pkl --workdir runs/s
    python -m scripts.convert --from edm2 --model edm2-img64-xs-0134217-0.110.pkl --workdir runs/xs
    python -m scripts.sample --workdir runs/s --autoguidance runs/xs --guidance 0.7 --count 16

(w = 1.7 of that paper is guidance 0.7 here.) M, L and XL are --config.model.width=256, 320 and 384,
with the rates 0.009, 0.008 and 0.007 and a dropout of 0.1.
"""

from ml_collections import ConfigDict

from configs import edm2_xs64


def get_config() -> ConfigDict:
    config = edm2_xs64.get_config()
    config.model.width = 192
    config.optimizer.learning_rate = 0.01
    return config
