"""Rebuild tests/golden/edm2: a small U-Net of EDM2 in PyTorch, and its output.

Written from appendix B of arXiv:2312.02696, with the names of its published files. `tiny.npz` has
the state dict (`state/NAME`), images (NHWC), sigmas, labels, the denoised images with and without
(`y_null`) the labels, and the uncertainty, in float32 on a CPU.

    pip install numpy torch
    python tests/golden/make_edm2.py
"""

import math
import pathlib

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

FOLDER = pathlib.Path(__file__).resolve().parent / "edm2"
WIDTH, MULTIPLIERS, BLOCKS, ATTENTION, HEAD, SIDE = 4, (1, 2), 1, (4,), 4, 8


def unit(x, dims):
    return x / (1e-4 + x.square().mean(dims, keepdim=True).sqrt())


def silu(x):
    return F.silu(x) / 0.596


def blend(a, b, t):
    return ((1 - t) * a + t * b) / math.hypot(1 - t, t)


def join(a, b, t):
    k = math.sqrt((a.shape[1] + b.shape[1]) / ((1 - t) ** 2 + t**2))
    a, b = a * (1 - t) * k / math.sqrt(a.shape[1]), b * t * k / math.sqrt(b.shape[1])
    return torch.cat([a, b], 1)


class Weight(nn.Module):
    def __init__(self, before, after, *window):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(after, before, *window))

    def forward(self, x, gain=1.0):
        w = unit(self.weight, tuple(range(1, self.weight.ndim))) * gain
        w = w / math.sqrt(self.weight[0].numel())
        return x @ w.T if w.ndim == 2 else F.conv2d(x, w, padding=w.shape[-1] // 2)


class Fourier(nn.Module):
    def __init__(self, count):
        super().__init__()
        self.register_buffer("freqs", 2 * math.pi * torch.randn(count))
        self.register_buffer("phases", 2 * math.pi * torch.rand(count))

    def forward(self, t):
        return math.sqrt(2) * torch.cos(t[:, None] * self.freqs + self.phases)


class Block(nn.Module):
    def __init__(self, before, after, embedding, encoder, way="keep", attend=False):
        super().__init__()
        self.encoder, self.way = encoder, way
        self.emb_gain = nn.Parameter(torch.randn([]))
        self.conv_res0 = Weight(after if encoder else before, after, 3, 3)
        self.emb_linear = Weight(embedding, after)
        self.conv_res1 = Weight(after, after, 3, 3)
        self.conv_skip = Weight(before, after, 1, 1) if before != after else None
        self.attn_qkv = Weight(after, 3 * after, 1, 1) if attend else None
        self.attn_proj = Weight(after, after, 1, 1) if attend else None

    def forward(self, x, cond):
        if self.way == "down":
            x = F.avg_pool2d(x, 2)
        if self.way == "up":
            x = F.interpolate(x, scale_factor=2)
        if self.encoder:
            x = unit(self.conv_skip(x) if self.conv_skip else x, 1)
        y = self.conv_res0(silu(x))
        y = y * (1 + self.emb_linear(cond, self.emb_gain))[:, :, None, None]
        y = self.conv_res1(silu(y))
        if not self.encoder and self.conv_skip:
            x = self.conv_skip(x)
        x = blend(x, y, 0.3)
        if self.attn_qkv:
            batch, channels, *_ = x.shape
            q, k, v = self.attn_qkv(x).reshape(batch, channels // HEAD, HEAD, 3, -1).unbind(3)
            q, k, v = (unit(part, 2) for part in (q, k, v))
            w = torch.softmax(torch.einsum("nhcq,nhck->nhqk", q, k) / math.sqrt(HEAD), -1)
            y = torch.einsum("nhqk,nhck->nhcq", w, v).reshape(x.shape)
            x = blend(x, self.attn_proj(y), 0.3)
        return x.clip(-256, 256)


class UNet(nn.Module):
    def __init__(self, channels, classes):
        super().__init__()
        widths = [WIDTH * m for m in MULTIPLIERS]
        embedding, now = max(widths), widths[0]
        self.classes, self.out_gain = classes, nn.Parameter(torch.randn([]))
        self.emb_fourier = Fourier(widths[0])
        self.emb_noise = Weight(widths[0], embedding)
        self.emb_label = Weight(classes, embedding)
        self.enc, self.dec = nn.ModuleDict(), nn.ModuleDict()
        kept = [now]
        self.enc[f"{SIDE}x{SIDE}_conv"] = Weight(channels + 1, now, 3, 3)
        for level, after in enumerate(widths):
            side = SIDE >> level
            if level:
                self.enc[f"{side}x{side}_down"] = Block(now, now, embedding, True, "down")
                kept.append(now)
            for i in range(BLOCKS):
                attend = side in ATTENTION
                name = f"{side}x{side}_block{i}"
                self.enc[name] = Block(now, after, embedding, True, attend=attend)
                now = after
                kept.append(now)
        for level, after in reversed(list(enumerate(widths))):
            side = SIDE >> level
            if level == len(widths) - 1:
                self.dec[f"{side}x{side}_in0"] = Block(now, now, embedding, False, attend=True)
                self.dec[f"{side}x{side}_in1"] = Block(now, now, embedding, False)
            else:
                self.dec[f"{side}x{side}_up"] = Block(now, now, embedding, False, "up")
            for i in range(BLOCKS + 1):
                attend = side in ATTENTION
                name = f"{side}x{side}_block{i}"
                before = now + kept.pop()
                self.dec[name] = Block(before, after, embedding, False, attend=attend)
                now = after
        self.out_conv = Weight(now, channels, 3, 3)

    def forward(self, x, c_noise, onehot):
        label = self.emb_label(onehot * math.sqrt(self.classes))
        cond = silu(blend(self.emb_noise(self.emb_fourier(c_noise)), label, 0.5))
        x, kept = torch.cat([x, torch.ones_like(x[:, :1])], 1), []
        for name, layer in self.enc.items():
            x = layer(x) if "conv" in name else layer(x, cond)
            kept.append(x)
        for name, layer in self.dec.items():
            x = layer(join(x, kept.pop(), 0.5) if "block" in name else x, cond)
        return self.out_conv(x, self.out_gain)


class Net(nn.Module):
    def __init__(self, channels, classes):
        super().__init__()
        self.unet = UNet(channels, classes)
        self.logvar_fourier = Fourier(8)
        self.logvar_linear = Weight(8, 1)

    def forward(self, x, sigma, onehot):
        s, c_noise = sigma[:, None, None, None], sigma.log() / 4
        variance = s**2 + 0.25
        estimate = self.unet(x / variance.sqrt(), c_noise, onehot)
        denoised = 0.25 / variance * x + 0.5 * s / variance.sqrt() * estimate
        return denoised, self.logvar_linear(self.logvar_fourier(c_noise))[:, 0]


def main():
    torch.manual_seed(0)
    net = Net(channels=3, classes=5)
    sigma, labels = torch.tensor([0.002, 0.5, 80.0]), torch.tensor([0, 4, 2])
    x = torch.randn(3, 3, SIDE, SIDE) * (sigma**2 + 0.25).sqrt()[:, None, None, None]
    onehot = F.one_hot(labels, 5).float()
    with torch.no_grad():
        y, u = net(x, sigma, onehot)
        y_null, _ = net(x, sigma, torch.zeros_like(onehot))
    nhwc = (0, 2, 3, 1)
    arrays = {"x": x.permute(nhwc), "y": y.permute(nhwc), "y_null": y_null.permute(nhwc), "u": u}
    state = {f"state/{name}": tensor for name, tensor in net.state_dict().items()}
    FOLDER.mkdir(exist_ok=True)
    arrays = {"sigma": sigma, "labels": labels} | arrays | state
    np.savez_compressed(FOLDER / "tiny.npz", **{n: a.numpy() for n, a in arrays.items()})


if __name__ == "__main__":
    main()
