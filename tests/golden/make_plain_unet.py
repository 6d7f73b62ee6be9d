"""Rebuild tests/golden/plain_unet: a small U-Net of the OASIS system in PyTorch, and its output.

Written from a description of the network, with the names of its state dicts. `tiny.pt` is what
torch.save writes of the state dict, whose batch norms have seen some data; `tiny.npz` has images
(NHWC), timesteps and what the network makes of them in eval mode, in float32 on a CPU.

    pip install numpy torch
    python tests/golden/make_plain_unet.py
"""

import pathlib

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

FOLDER = pathlib.Path(__file__).resolve().parent / "plain_unet"
DOWN = ("first", "second", "third", "fourth")
UP = ("fifth", "sixth", "seventh", "eigth")


class Time(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.dim = dim
        self.linear = nn.Linear(dim, dim)

    def forward(self, t):
        half = self.dim // 2
        angles = t[:, None] * torch.tensor([10000 ** (-i / (half - 1)) for i in range(half)])
        return F.relu(self.linear(torch.cat([angles.sin(), angles.cos()], -1)))


class Level(nn.Module):
    def __init__(self, before, after, dim):
        super().__init__()
        self.time = nn.Linear(dim, after)
        self.conv_1 = nn.Conv2d(before, after, 3, padding=1)
        self.conv_2 = nn.Conv2d(after, after, 3, padding=1)
        self.bnorm1 = nn.BatchNorm2d(after)
        self.bnorm2 = nn.BatchNorm2d(after)

    def forward(self, x, cond):
        x = F.relu(self.bnorm1(self.conv_1(x))) + F.relu(self.time(cond))[:, :, None, None]
        return F.relu(self.bnorm2(self.conv_2(x)))


class Net(nn.Module):
    def __init__(self, channels, width, dim):
        super().__init__()
        self.time_embedding = Time(dim)
        widths = [width * 2**i for i in range(5)]
        for name, before, after in zip(DOWN, [channels, *widths], widths):
            setattr(self, f"{name}_level", Level(before, after, dim))
        self.bottle_neck = Level(widths[3], widths[4], dim)
        for name, wide, narrow in zip(UP, widths[:0:-1], widths[-2::-1]):
            setattr(self, f"{name}_level_up", nn.ConvTranspose2d(wide, narrow, 2, stride=2))
            setattr(self, f"{name}_level", Level(wide, narrow, dim))
        self.last_conv = nn.Conv2d(width, channels, 1)

    def forward(self, x, t):
        cond, kept = self.time_embedding(t), []
        for name in DOWN:
            x = getattr(self, f"{name}_level")(x, cond)
            kept.append(x)
            x = F.max_pool2d(x, 2)
        x = self.bottle_neck(x, cond)
        for name in UP:
            x = getattr(self, f"{name}_level_up")(x)
            x = getattr(self, f"{name}_level")(torch.cat([kept.pop(), x], 1), cond)
        return self.last_conv(x)


def main():
    torch.manual_seed(0)
    net = Net(channels=1, width=2, dim=8)
    x, t = torch.randn(3, 1, 16, 32), torch.tensor([0.0, 7.0, 599.0])
    for parameter in net.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    for _ in range(20):
        net(torch.randn_like(x), 600 * torch.rand(3))
    net.eval()
    FOLDER.mkdir(exist_ok=True)
    torch.save(net.state_dict(), FOLDER / "tiny.pt")
    y = net(x, t).detach()
    assert y.std() > 0.05
    nhwc = (0, 2, 3, 1)
    np.savez(FOLDER / "tiny.npz", x=x.permute(nhwc), t=t, y=y.permute(nhwc))


if __name__ == "__main__":
    main()
