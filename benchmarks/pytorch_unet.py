"""The U-Net of `diffusion_jax.models.UNet` in plain PyTorch, for comparison.

It has the blocks `res`, `clsAtn` and `chnAtn`, and the same parameters: see `state_dict_of`.
"""

import itertools
import math
import re
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import torch
import torch.nn.functional as F
from ml_collections import ConfigDict
from torch import Tensor, nn

from diffusion_jax.models.layers.attention import eca_kernel_size
from diffusion_jax.models.layers.convolutions import quarter_groups


class StandardizedConv(nn.Conv2d):
    """Weight Standardization (arXiv:1903.10520), without a gain."""

    def forward(self, x: Tensor) -> Tensor:
        variance, mean = torch.var_mean(self.weight, (1, 2, 3), correction=0, keepdim=True)
        weight = (self.weight - mean) * torch.rsqrt(variance + 1e-5)
        return F.conv2d(x, weight, self.bias, padding=self.padding)


class ResBlock(nn.Module):
    def __init__(self, old: int, new: int, time_dim: int, label_dim: int) -> None:
        super().__init__()
        self.time, self.label = nn.Linear(time_dim, new), nn.Linear(label_dim, new)
        self.conv_0 = StandardizedConv(old, new, 3, padding=1)
        self.norm_0 = nn.GroupNorm(8 if old > 4 and old % 8 == 0 and new % 8 == 0 else 1, new)
        self.conv_1 = StandardizedConv(new, new, 3, padding=1)
        self.norm_1 = nn.GroupNorm(8 if new > 4 and new % 8 == 0 else 1, new)
        self.shortcut = nn.Identity() if old == new else nn.Conv2d(old, new, 1)

    def forward(self, x: Tensor, time: Tensor, label: Tensor) -> Tensor:
        h = self.norm_0(self.conv_0(x)) * self.time(F.silu(time))[:, :, None, None]
        h = F.silu(h + self.label(F.silu(label))[:, :, None, None])
        return self.shortcut(x) + F.silu(self.norm_1(self.conv_1(h)))


class ClassAttention(nn.Module):
    def __init__(self, channels: int, label_dim: int) -> None:
        super().__init__()
        self.norm_in = nn.GroupNorm(quarter_groups(channels), channels)
        self.query, self.key = nn.Linear(label_dim, channels), nn.Linear(label_dim, channels)
        self.out = nn.Conv2d(channels, channels, 1)
        self.norm_out = nn.GroupNorm(quarter_groups(channels), channels)

    def forward(self, x: Tensor, time: Tensor, label: Tensor) -> Tensor:
        h = self.norm_in(x)
        weights = F.softmax(self.query(label)[:, :, None] * self.key(label)[:, None, :], dim=-1)
        h = h + torch.einsum("bcd,bdhw->bchw", weights, h)
        return x + self.norm_out(self.out(h))


class ChannelAttention(nn.Conv1d):
    def __init__(self, channels: int) -> None:
        size = eca_kernel_size(channels)
        super().__init__(1, 1, size, padding=size // 2, bias=False)

    def forward(self, x: Tensor, time: Tensor, label: Tensor) -> Tensor:
        mixed = super().forward(x.mean((2, 3))[:, None, :])
        return x * torch.sigmoid(mixed[:, 0, :, None, None])


class Head(nn.Module):
    """A ConvNeXt block without conditioning."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = nn.GroupNorm(quarter_groups(channels), channels)
        self.expand = nn.Conv2d(channels, 2 * channels, 1)
        self.project = nn.Conv2d(2 * channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.project(F.gelu(self.expand(self.norm(self.depthwise(x)))))


class Chain(nn.ModuleList):
    """A chain of blocks; the first maps to `new` channels."""

    def __init__(self, names: list[str], old: int, new: int, time_dim: int, label_dim: int) -> None:
        super().__init__()
        for index, name in enumerate(names):
            if name == "res":
                self.append(ResBlock(new if index else old, new, time_dim, label_dim))
            elif name == "clsAtn":
                self.append(ClassAttention(new, label_dim))
            else:
                self.append(ChannelAttention(new))

    def forward(self, x: Tensor, time: Tensor, label: Tensor) -> Tensor:
        for block in self:
            x = block(x, time, label)
        return x


class UNet(nn.Module):
    """(x, c_noise, labels) -> (noise, variance fraction). x: (batch, channels, height, width)."""

    def __init__(
        self,
        *,
        channels: int,
        num_classes: int,
        width: int,
        levels: int,
        growth: int,
        blocks: str,
        time_dim: int,
        label_dim: int,
    ) -> None:
        super().__init__()
        names = [name.strip() for name in blocks.split(",")]
        widths = [width * 2 ** (growth * i) for i in range(levels + 1)]
        pairs = list(itertools.pairwise(widths))

        def chain(old: int, new: int) -> Chain:
            return Chain(names, old, new, time_dim, label_dim)

        half = time_dim // 2
        frequencies = torch.exp(-math.log(10000) * torch.arange(half, dtype=torch.float64) / half)
        self.register_buffer("frequencies", frequencies.float(), persistent=False)
        self.time_mlp = nn.ModuleDict(
            {"hidden": nn.Linear(time_dim, time_dim), "out": nn.Linear(time_dim, time_dim)}
        )
        # The null label's row is zero and is not trained.
        self.label_embedding = nn.Embedding(num_classes + 1, label_dim, padding_idx=num_classes)
        self.stem = nn.Conv2d(channels, width, 7, padding=3)
        self.down = nn.ModuleList(chain(old, new) for old, new in pairs)
        self.halving = nn.ModuleList(nn.Conv2d(n, n, 3, stride=2, padding=1) for _, n in pairs)
        widest = widths[-1]
        self.middle = nn.ModuleList(
            [chain(widest, widest), ChannelAttention(widest), chain(widest, widest)]
        )
        self.doubling = nn.ModuleList(
            nn.ConvTranspose2d(n, n, 4, stride=2, padding=1) for _, n in pairs
        )
        self.up = nn.ModuleList(chain(2 * new, old) for old, new in pairs)
        self.tail = nn.ModuleList([chain(width, width), chain(width, 2 * channels)])
        self.head = nn.Conv2d(2 * channels, 2 * channels, 7, padding=3)
        self.noise_head, self.variance_head = Head(channels), Head(channels)

    def forward(self, x: Tensor, c_noise: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        angles = c_noise[:, None] * self.frequencies
        time = F.gelu(self.time_mlp["hidden"](torch.cat([angles.sin(), angles.cos()], dim=1)))
        condition = self.time_mlp["out"](time), self.label_embedding(labels)

        x = self.stem(x)
        kept = []
        for chain, halve in zip(self.down, self.halving):
            x = chain(x, *condition)
            kept.append(x)
            x = halve(x)
        for part in self.middle:
            x = part(x, *condition)
        for chain, double in zip(reversed(self.up), reversed(self.doubling)):
            x = chain(torch.cat([double(x), kept.pop()], dim=1), *condition)
        for chain in self.tail:
            x = chain(x, *condition)
        variance, noise = self.head(x).chunk(2, dim=1)
        return self.noise_head(noise), self.variance_head(variance)


def from_config(config: ConfigDict) -> UNet:
    """Builds the network of config.model. Raises ValueError for other networks than this one."""
    check(config)
    model = config.model
    fields = ("channels", "num_classes", "width", "levels", "growth", "blocks")
    return UNet(**{name: model[name] for name in (*fields, "time_dim", "label_dim")})


def check(config: ConfigDict) -> None:
    """Raises ValueError for a network that is not implemented here."""
    model = config.model
    if config.original_quirks:
        raise ValueError("original_quirks=True must be False in PyTorch here")
    if model.name != "unet":
        raise ValueError(f"model.name={model.name}: only unet is implemented here")
    names = {name.strip() for name in model.blocks.split(",")}
    if not names <= {"res", "clsAtn", "chnAtn"}:
        raise ValueError(
            f"model.blocks={model.blocks}: only res, clsAtn and chnAtn are implemented here"
        )
    wanted = {"time_embedding": ("auto", "standard"), "dropout": (0.0,), "remat": ((),)}
    for name, values in wanted.items():
        if model[name] not in values:
            raise ValueError(f"model.{name}={model[name]} must be {values[0]!r} in PyTorch here")
    if model.num_classes < 1:
        raise ValueError(f"model.num_classes={model.num_classes} must be at least 1 here")


def state_dict_of(params: Mapping[str, Any]) -> dict[str, Tensor]:
    """Converts parameters of `diffusion_jax.models.UNet` to a state dict of `UNet`."""
    found = {}
    for path, value in jax.tree.leaves_with_path(params):
        name = "/".join(key.key for key in path)
        found[_name(name)] = torch.tensor(_in_layout(name, np.asarray(value)))
    return found


def _name(ours: str) -> str:
    """Maps a name, such as down_0/1_clsAtn/norm_in/norm/scale -> down.0.1.norm_in.weight."""
    name = re.sub(r"^\w+?_(\d+)_(halv|doubl)e/", r"\2ing/\1/", ours)
    name = re.sub(r"^(down|up|middle|tail)_(\d+)/", r"\1/\2/", name)
    name = re.sub(r"/(\d+)_(res|clsAtn|chnAtn)/", r"/\1/", name)
    name = re.sub(r"/norm/(scale|bias)$", r"/\1", name)
    return re.sub(r"(kernel|scale|table)$", "weight", name).replace("/", ".")


def _in_layout(name: str, value: np.ndarray) -> np.ndarray:
    if name.endswith("table"):
        return np.concatenate([value, np.zeros_like(value[:1])])
    if "_double/" in name and value.ndim == 4:
        return np.flip(value, (0, 1)).transpose(2, 3, 0, 1).copy()
    axes = {4: (3, 2, 0, 1), 3: (2, 1, 0), 2: (1, 0)}
    return value.transpose(axes[value.ndim]) if value.ndim > 1 else value
