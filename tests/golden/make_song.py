"""Rebuild tests/golden/song: small DDPM++ and NCSN++ networks in PyTorch, and their outputs.

Written from arXiv:2011.13456, appendix H, and arXiv:2206.00364, appendix F, with the names of EDM's
published files. `ddpmpp.npz` and `ncsnpp.npz` have the state dict (`state/NAME`), images (NHWC),
clocks, labels, augmentations, and the network's output for them, without augmentations (`y_plain`)
and without labels, too (`y_null`), in float32 on a CPU.

    pip install numpy torch
    python tests/golden/make_song.py
"""

import math
import pathlib

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

FOLDER = pathlib.Path(__file__).resolve().parent / "song"
WIDTH, MULTIPLIERS, ATTENTION, SIDE, CLASSES, AUGMENT = 8, (1, 2), (4,), 8, 5, 9


def fir(x, taps, way):
    taps = torch.tensor(taps, dtype=torch.float32)
    window = (taps[:, None] * taps[None, :] / taps.sum() ** 2).expand(x.shape[1], 1, -1, -1)
    padding = (len(taps) - 1) // 2
    if way == "down":
        return F.conv2d(x, window, stride=2, padding=padding, groups=x.shape[1])
    return F.conv_transpose2d(x, 4 * window, stride=2, padding=padding, groups=x.shape[1])


def group_norm(channels):
    return nn.GroupNorm(min(32, channels // 4), channels, eps=1e-6)


class Block(nn.Module):
    def __init__(self, before, after, taps, way="keep", attend=False):
        super().__init__()
        self.taps, self.way = taps, way
        self.norm0, self.norm1 = group_norm(before), group_norm(after)
        self.conv0 = nn.Conv2d(before, after, 3, padding=1)
        self.affine = nn.Linear(4 * WIDTH, after)
        self.conv1 = nn.Conv2d(after, after, 3, padding=1)
        new = way != "keep" or before != after
        self.skip = nn.Conv2d(before, after, 1) if new else None
        self.norm2 = group_norm(after) if attend else None
        self.qkv = nn.Conv2d(after, 3 * after, 1) if attend else None
        self.proj = nn.Conv2d(after, after, 1) if attend else None

    def forward(self, x, cond):
        def change(x):
            return x if self.way == "keep" else fir(x, self.taps, self.way)

        h = self.conv0(change(F.silu(self.norm0(x))))
        h = self.norm1(h + self.affine(cond)[:, :, None, None])
        h = self.conv1(F.silu(h))
        x = (h + (self.skip(change(x)) if self.skip else x)) / math.sqrt(2)
        if self.qkv:
            q, k, v = self.qkv(self.norm2(x)).unflatten(1, (-1, 3)).flatten(3).unbind(2)
            w = torch.softmax(q.transpose(1, 2) @ k / math.sqrt(q.shape[1]), -1)
            x = (x + self.proj((v @ w.transpose(1, 2)).reshape(x.shape))) / math.sqrt(2)
        return x


class Fourier(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.register_buffer("freqs", 16 * torch.randn(dim // 2))

    def forward(self, t):
        angles = 2 * math.pi * t[:, None] * self.freqs
        return torch.cat([angles.sin(), angles.cos()], 1)


class Net(nn.Module):
    def __init__(self, ncsn, blocks, channels=3):
        super().__init__()
        self.ncsn, self.dim = ncsn, (2 if ncsn else 1) * WIDTH
        taps = (1, 3, 3, 1) if ncsn else (1, 1)
        self.taps = taps
        self.map_noise = Fourier(self.dim) if ncsn else nn.Identity()
        self.map_label = nn.Linear(CLASSES, self.dim)
        self.map_augment = nn.Linear(AUGMENT, self.dim, bias=False)
        self.map_layer0 = nn.Linear(self.dim, 4 * WIDTH)
        self.map_layer1 = nn.Linear(4 * WIDTH, 4 * WIDTH)
        self.enc, self.dec = nn.ModuleDict(), nn.ModuleDict()
        now, kept = WIDTH, [WIDTH]
        self.enc[f"{SIDE}x{SIDE}_conv"] = nn.Conv2d(channels, now, 3, padding=1)
        image = channels
        for level, multiplier in enumerate(MULTIPLIERS):
            side = SIDE >> level
            if level:
                self.enc[f"{side}x{side}_down"] = Block(now, now, taps, "down")
                if ncsn:
                    residual = nn.Conv2d(image, now, 3, padding=2)
                    self.enc[f"{side}x{side}_aux_residual"] = residual
                    image = now
                kept.append(now)
            for i in range(blocks):
                after = WIDTH * multiplier
                block = Block(now, after, taps, attend=side in ATTENTION)
                self.enc[f"{side}x{side}_block{i}"] = block
                now = after
                kept.append(now)
        for level, multiplier in reversed(list(enumerate(MULTIPLIERS))):
            side = SIDE >> level
            if level == len(MULTIPLIERS) - 1:
                self.dec[f"{side}x{side}_in0"] = Block(now, now, taps, attend=True)
                self.dec[f"{side}x{side}_in1"] = Block(now, now, taps)
            else:
                self.dec[f"{side}x{side}_up"] = Block(now, now, taps, "up")
            for i in range(blocks + 1):
                attend = i == blocks and side in ATTENTION
                block = Block(now + kept.pop(), WIDTH * multiplier, taps, attend=attend)
                self.dec[f"{side}x{side}_block{i}"] = block
                now = WIDTH * multiplier
        self.dec[f"{SIDE}x{SIDE}_aux_norm"] = group_norm(now)
        self.dec[f"{SIDE}x{SIDE}_aux_conv"] = nn.Conv2d(now, channels, 3, padding=1)

    def forward(self, x, c_noise, onehot, augment):
        if self.ncsn:
            cond = self.map_noise(c_noise)
        else:
            half = self.dim // 2
            angles = c_noise[:, None] * 10000 ** (-torch.arange(half) / (half - 1))
            cond = torch.cat([angles.sin(), angles.cos()], 1)
        cond = cond + self.map_label(onehot * math.sqrt(CLASSES)) + self.map_augment(augment)
        cond = F.silu(self.map_layer1(F.silu(self.map_layer0(cond))))
        image, kept = x, []
        for name, layer in self.enc.items():
            if "aux" in name:
                bias = layer.bias[:, None, None]
                window = torch.tensor(self.taps, dtype=torch.float32)
                window = window[:, None] * window[None, :] / window.sum() ** 2
                small = layer(image) - bias
                window = window.expand(small.shape[1], 1, -1, -1)
                small = F.conv2d(small, window, stride=2, groups=small.shape[1]) + bias
                x = image = kept[-1] = (x + small) / math.sqrt(2)
                continue
            x = layer(x) if "conv" in name else layer(x, cond)
            kept.append(x)
        for name, layer in self.dec.items():
            if "aux" in name:
                x = F.silu(layer(x)) if "norm" in name else layer(x)
            else:
                x = layer(torch.cat([x, kept.pop()], 1) if "block" in name else x, cond)
        return x


def main():
    FOLDER.mkdir(exist_ok=True)
    for name, ncsn, blocks in (("ddpmpp", False, 1), ("ncsnpp", True, 1)):
        torch.manual_seed(int(ncsn))
        net = Net(ncsn, blocks)
        for parameter in net.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
        x, c_noise = torch.randn(3, 3, SIDE, SIDE), torch.tensor([-1.5, -0.17, 1.1])
        labels, augment = torch.tensor([0, 4, 2]), torch.randn(3, AUGMENT)
        onehot = F.one_hot(labels, CLASSES).float()
        zero = torch.zeros_like
        with torch.no_grad():
            y = net(x, c_noise, onehot, augment)
            y_plain = net(x, c_noise, onehot, zero(augment))
            y_null = net(x, c_noise, zero(onehot), zero(augment))
        images = {"x": x, "y": y, "y_plain": y_plain, "y_null": y_null}
        arrays = {key: image.permute(0, 2, 3, 1) for key, image in images.items()}
        arrays |= {"clock": c_noise, "labels": labels, "augment": augment}
        arrays |= {f"state/{key}": tensor for key, tensor in net.state_dict().items()}
        arrays = {key: tensor.numpy() for key, tensor in arrays.items()}
        np.savez_compressed(FOLDER / f"{name}.npz", **arrays)


if __name__ == "__main__":
    main()
