"""Rebuild tests/golden/attention_unet: a small U-Net of MyDiffusionModel in PyTorch, its output.

Written from a description of the network, with the names of its state dicts. `tiny.pt` is what
torch.save writes of the state dict; `tiny.npz` has images (NHWC), timesteps, labels and what the
network makes of them, with and without (`y_null`) the labels, in float32 on a CPU.

    pip install numpy torch
    python tests/golden/make_attention_unet.py
"""

import pathlib

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

FOLDER = pathlib.Path(__file__).resolve().parent / "attention_unet"


class Double(nn.Module):
    def __init__(self, before, middle, after):
        super().__init__()
        self.double_conv = nn.Sequential(
            nn.Conv2d(before, middle, 3, padding=1, bias=False),
            nn.GroupNorm(1, middle),
            nn.GELU(),
            nn.Conv2d(middle, after, 3, padding=1, bias=False),
            nn.GroupNorm(1, after),
        )

    def forward(self, x):
        return self.double_conv(x)


class Level(nn.Module):
    def __init__(self, before, middle, after, dim, place, offset):
        super().__init__()
        self.place, self.offset = place, offset
        convs = [Double(before, before, before), Double(before, middle, after)]
        setattr(self, place, nn.ModuleDict({str(offset + i): c for i, c in enumerate(convs)}))
        self.emb_layer = nn.Sequential(nn.SiLU(), nn.Linear(dim, after))

    def forward(self, x, cond):
        residual, change = getattr(self, self.place).values()
        x = change(F.gelu(x + residual(x)))
        return x + self.emb_layer(cond)[:, :, None, None]


class Attention(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.mha = nn.MultiheadAttention(channels, 4, batch_first=True)
        self.ln = nn.LayerNorm([channels])
        self.ff_self = nn.Sequential(
            nn.LayerNorm([channels]),
            nn.Linear(channels, channels),
            nn.GELU(),
            nn.Linear(channels, channels),
        )

    def forward(self, x):
        tokens = x.flatten(2).transpose(1, 2)
        normed = self.ln(tokens)
        tokens = tokens + self.mha(normed, normed, normed)[0]
        return (tokens + self.ff_self(tokens)).transpose(1, 2).reshape(x.shape)


class Net(nn.Module):
    def __init__(self, channels, classes, width, dim):
        super().__init__()
        self.dim = dim
        w = width
        self.inc = Double(channels, w, w)
        for i, (before, after) in enumerate([(w, 2 * w), (2 * w, 4 * w), (4 * w, 4 * w)], 1):
            level = Level(before, after, after, dim, "maxpool_conv", 1)
            setattr(self, f"down{i}", level)
            setattr(self, f"sa{i}", Attention(after))
        for i, (before, after) in enumerate([(4 * w, 8 * w), (8 * w, 8 * w), (8 * w, 4 * w)], 1):
            setattr(self, f"bot{i}", Double(before, after, after))
        for i, (before, after) in enumerate([(8 * w, 2 * w), (4 * w, w), (2 * w, w)], 1):
            setattr(self, f"up{i}", Level(before, before // 2, after, dim, "conv", 0))
            setattr(self, f"sa{i + 3}", Attention(after))
        self.outc = nn.Conv2d(w, channels, 1)
        self.label_emb = nn.Embedding(classes, dim)

    def forward(self, x, t, labels):
        angles = t[:, None] * torch.tensor(
            [10000 ** (-2 * i / self.dim) for i in range(self.dim // 2)]
        )
        cond = torch.cat([angles.sin(), angles.cos()], -1)
        if labels is not None:
            cond = cond + self.label_emb(labels)
        x = self.inc(x)
        kept = [x]
        for i in (1, 2, 3):
            x = getattr(self, f"down{i}")(F.max_pool2d(x, 2), cond)
            x = getattr(self, f"sa{i}")(x)
            kept.append(x)
        kept.pop()
        x = self.bot3(self.bot2(self.bot1(x)))
        for i in (1, 2, 3):
            x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)
            x = getattr(self, f"up{i}")(torch.cat([kept.pop(), x], 1), cond)
            x = getattr(self, f"sa{i + 3}")(x)
        return self.outc(x)


def main():
    torch.manual_seed(0)
    net = Net(channels=2, classes=5, width=4, dim=16).eval()
    for parameter in net.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    x, t = torch.randn(3, 2, 16, 16), torch.tensor([0.0, 7.0, 999.0])
    labels = torch.tensor([0, 4, 2])
    FOLDER.mkdir(exist_ok=True)
    torch.save(net.state_dict(), FOLDER / "tiny.pt")
    nhwc = (0, 2, 3, 1)
    with torch.no_grad():
        y, y_null = net(x, t, labels), net(x, t, None)
    np.savez(
        FOLDER / "tiny.npz",
        x=x.permute(nhwc),
        t=t,
        labels=labels,
        y=y.permute(nhwc),
        y_null=y_null.permute(nhwc),
    )


if __name__ == "__main__":
    main()
