"""The U-Net whose blocks a string in the config selects."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Int

from diffusion_jax.diffusion.types import Features, Images, Labels, NetworkOutput
from diffusion_jax.models.attention import ChannelAttention, ClassAttention, WindowAttention
from diffusion_jax.models.blocks import Block, Conditioning
from diffusion_jax.models.convnext import ConvNeXtBlock
from diffusion_jax.models.embeddings import (
    LabelEmbedding,
    TimeMLP,
    reference_sinusoidal,
    sinusoidal,
    time_embedding_kind,
)
from diffusion_jax.models.layers import conv, double
from diffusion_jax.models.residual import ResBlock

BLOCKS: dict[str, type[Block]] = {
    "res": ResBlock,
    "conv": ConvNeXtBlock,
    "clsAtn": ClassAttention,
    "atn": WindowAttention,
    "chnAtn": ChannelAttention,
}
CHANGES_CHANNELS = ("res", "conv")


def parse_blocks(blocks: str) -> tuple[str, ...]:
    """The block names of a comma-separated string such as "res,res,clsAtn,chnAtn".

    Raises ValueError for an unknown name, and where the first block cannot change the channels.
    """
    names = tuple(name.strip() for name in blocks.split(","))
    known = ", ".join(BLOCKS)
    for name in names:
        if name not in BLOCKS:
            raise ValueError(f"Unknown block {name!r} in blocks={blocks!r}; known blocks: {known}")
    if names[0] not in CHANGES_CHANNELS:
        raise ValueError(
            f"blocks={blocks!r} starts with {names[0]!r}, which keeps the number of channels; "
            f"start with one of: {', '.join(CHANGES_CHANNELS)}"
        )
    return names


class Level(nn.Module):
    """The chain of blocks at one place of the U-Net; the first one maps to `features` channels."""

    names: tuple[str, ...]
    features: int
    options: Mapping[str, Any]

    @nn.compact
    def __call__(self, x: Images, cond: Conditioning, *, train: bool) -> Features:
        for index, name in enumerate(self.names):
            block = BLOCKS[name](self.features, **self.options, name=f"{index}_{name}")
            x = block(x, cond, train=train)
        return x


class UNet(nn.Module):
    """(x_t, timesteps, labels) -> NetworkOutput.

    stem -> levels down -> middle -> levels up -> tail -> head -> two small heads for the noise and
    the variance. Level i = 0 .. levels has width * 2^(growth * i) channels. Each level runs
    `blocks`, is kept for the way up, and halves the resolution by a strided convolution; on the way
    up a transposed convolution doubles it and what was kept is concatenated behind.

    channels: of the images. num_classes: 0 for a model without classes; otherwise labels are
    0 .. num_classes - 1, and num_classes is the null label. behaviour, window, num_heads, dropout:
    see `Block`. time_embedding: "standard", or one of `embeddings.reference_sinusoidal`; "auto" is
    "standard" for corrected and "head" for reference behaviour. dtype: "float32" or "bfloat16", for
    convolutions and matrix products; parameters, norms, embeddings and the output are float32.
    The images' sides must be divisible by 2^levels.
    """

    channels: int
    width: int
    levels: int
    blocks: str
    num_classes: int
    growth: int = 1
    time_dim: int = 512
    label_dim: int = 512
    window: int = 16
    num_heads: int = 8
    dropout: float = 0.0
    behaviour: str = "corrected"
    time_embedding: str = "auto"
    dtype: str = "float32"

    @nn.compact
    def __call__(
        self,
        x: Images,
        timesteps: Int[Array, "batch"],
        labels: Labels | None = None,
        *,
        train: bool = False,
        examples: Int[Array, "batch"] | None = None,
    ) -> NetworkOutput:
        """x: (batch, height, width, channels). train: dropout on, which draws from `examples`.

        examples: each one's index in the whole batch (of all devices); None: as they come.
        """
        dtype = jnp.dtype(self.dtype)
        options = {
            "behaviour": self.behaviour,
            "window": self.window,
            "num_heads": self.num_heads,
            "dropout": self.dropout,
            "dtype": dtype,
        }
        level = partial(Level, parse_blocks(self.blocks), options=options)
        widths = [self.width * 2 ** (self.growth * i) for i in range(self.levels + 1)]
        cond = self._conditioning(timesteps, labels, examples)

        x = conv(widths[0], 7, "stem", dtype)(x)
        kept = []
        for i, features in enumerate(widths[1:]):
            x = level(features=features, name=f"down_{i}")(x, cond, train=train)
            kept.append(x)
            x = conv(features, 3, f"down_{i}_halve", dtype, strides=2)(x)

        x = level(features=widths[-1], name="middle_0")(x, cond, train=train)
        x = ChannelAttention(widths[-1], name="middle_1")(x, cond, train=train)
        x = level(features=widths[-1], name="middle_2")(x, cond, train=train)

        for i in reversed(range(self.levels)):
            x = double(widths[i + 1], f"up_{i}_double", dtype)(x)
            x = jnp.concatenate([x, kept.pop()], axis=-1)
            x = level(features=widths[i], name=f"up_{i}")(x, cond, train=train)

        x = level(features=widths[0], name="tail_0")(x, cond, train=train)
        x = level(features=2 * self.channels, name="tail_1")(x, cond, train=train)
        x = conv(2 * self.channels, 7, "head", jnp.float32)(x)
        variance, noise = jnp.split(x, 2, axis=-1)
        return NetworkOutput(
            noise=ConvNeXtBlock(self.channels, name="noise_head")(noise, None, train=train),
            variance_fraction=ConvNeXtBlock(self.channels, name="variance_head")(
                variance, None, train=train
            ),
        )

    def _conditioning(
        self,
        timesteps: Int[Array, "batch"],
        labels: Labels | None,
        examples: Int[Array, "batch"] | None,
    ) -> Conditioning:
        if (labels is None) != (self.num_classes == 0):
            given = "no labels" if labels is None else "labels"
            raise ValueError(f"A model with num_classes={self.num_classes} was given {given}")
        label = None
        if labels is not None:
            label = LabelEmbedding(self.num_classes, self.label_dim, name="label_embedding")(labels)
        kind = time_embedding_kind(self.time_embedding, self.behaviour)
        if kind == "standard":
            embedding = sinusoidal(timesteps, self.time_dim)
        else:
            embedding = reference_sinusoidal(timesteps, self.time_dim, kind, examples)
        time = TimeMLP(self.time_dim, name="time_mlp")(embedding)
        return Conditioning(time=time, label=label, examples=examples)
