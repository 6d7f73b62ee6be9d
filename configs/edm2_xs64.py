"""EDM2-XS on ImageNet 64x64: the magnitude-preserving U-Net, 124,710,949 parameters.

Analyzing and Improving the Training Dynamics of Diffusion Models (arXiv:2312.02696). Settings are its
own for this resolution, but for the learning rate, which here is constant after the warm-up.
FID and time of this implementation: not measured yet.

    python -m scripts.train --config configs/edm2_xs64.py --workdir runs/edm2_xs64
"""
