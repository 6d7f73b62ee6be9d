"""Rebuild tests/golden/rrdbnet: a small RRDBNet in PyTorch, its file and its output.

Written from section 3.1 of ESRGAN (arXiv:1809.00219), with the names of BasicSR's files.
`tiny.pth` is what torch.save writes of {"params_ema": state dict}; `tiny.npz` has two 5x7 images
(NHWC) and what the network makes of them, both in float32 on a CPU.

    pip install numpy torch
    python tests/golden/make_rrdbnet.py
"""

import pathlib

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

FOLDER = pathlib.Path(__file__).resolve().parent / "rrdbnet"


class DenseBlock(nn.Module):
    def __init__(self, features, growth):
        super().__init__()
        self.conv1 = nn.Conv2d(features, growth, 3, 1, 1)
        self.conv2 = nn.Conv2d(features + growth, growth, 3, 1, 1)
        self.conv3 = nn.Conv2d(features + 2 * growth, growth, 3, 1, 1)
        self.conv4 = nn.Conv2d(features + 3 * growth, growth, 3, 1, 1)
        self.conv5 = nn.Conv2d(features + 4 * growth, features, 3, 1, 1)

    def forward(self, x):
        a = F.leaky_relu(self.conv1(x), 0.2)
        b = F.leaky_relu(self.conv2(torch.cat((x, a), 1)), 0.2)
        c = F.leaky_relu(self.conv3(torch.cat((x, a, b), 1)), 0.2)
        d = F.leaky_relu(self.conv4(torch.cat((x, a, b, c), 1)), 0.2)
        return 0.2 * self.conv5(torch.cat((x, a, b, c, d), 1)) + x


class RRDB(nn.Module):
    def __init__(self, features, growth):
        super().__init__()
        self.rdb1 = DenseBlock(features, growth)
        self.rdb2 = DenseBlock(features, growth)
        self.rdb3 = DenseBlock(features, growth)

    def forward(self, x):
        return 0.2 * self.rdb3(self.rdb2(self.rdb1(x))) + x


class RRDBNet(nn.Module):
    def __init__(self, blocks=23, features=64, growth=32):
        super().__init__()
        self.conv_first = nn.Conv2d(3, features, 3, 1, 1)
        self.body = nn.Sequential(*(RRDB(features, growth) for _ in range(blocks)))
        self.conv_body = nn.Conv2d(features, features, 3, 1, 1)
        self.conv_up1 = nn.Conv2d(features, features, 3, 1, 1)
        self.conv_up2 = nn.Conv2d(features, features, 3, 1, 1)
        self.conv_hr = nn.Conv2d(features, features, 3, 1, 1)
        self.conv_last = nn.Conv2d(features, 3, 3, 1, 1)

    def forward(self, x):
        x = self.conv_first(x)
        x = x + self.conv_body(self.body(x))
        x = F.leaky_relu(self.conv_up1(F.interpolate(x, scale_factor=2, mode="nearest")), 0.2)
        x = F.leaky_relu(self.conv_up2(F.interpolate(x, scale_factor=2, mode="nearest")), 0.2)
        return self.conv_last(F.leaky_relu(self.conv_hr(x), 0.2))


@torch.no_grad()
def random_network(**sizes):
    """With weights that keep the size of their inputs, so that every layer counts."""
    network = RRDBNet(**sizes)
    for name, parameter in network.named_parameters():
        bias = name.endswith("bias")
        nn.init.normal_(parameter, std=0.1 if bias else parameter[0].numel() ** -0.5)
    network.conv_last.bias += 0.5  # gray on average, as most images are
    return network


@torch.no_grad()
def main():
    torch.manual_seed(0)
    network = random_network(blocks=2, features=8, growth=4)
    images = torch.rand(2, 3, 5, 7)
    arrays = {"images": images, "enlarged": network(images)}
    FOLDER.mkdir(exist_ok=True)
    torch.save({"params_ema": network.state_dict()}, FOLDER / "tiny.pth")
    nhwc = {name: array.permute(0, 2, 3, 1).numpy() for name, array in arrays.items()}
    np.savez(FOLDER / "tiny.npz", **nhwc)


if __name__ == "__main__":
    main()
