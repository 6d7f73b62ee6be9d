"""The blocks of the ADM U-Net. Diffusion Models Beat GANs (arXiv:2105.05233), section 3."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, DTypeLike, Float, Int

from diffusion_jax.diffusion.types import Images
from diffusion_jax.models.layers.attention import attention
from diffusion_jax.models.layers.convolutions import TORCH_KERNEL, Conv, Dropout
from diffusion_jax.models.layers.normalization import (
    Activation,
    GroupNorm,
    PerChannel,
    identity,
)

Embedding = Float[Array, "batch embedding"]
ZERO = nn.initializers.zeros_init()


def square_conv(
    features: int, size: int, name: str, dtype: DTypeLike, *, stride: int = 1, zero: bool = False
) -> nn.Conv:
    """Returns a convolution with PyTorch's padding; zero=True initializes the kernel to 0."""
    return Conv(
        features,
        (size, size),
        strides=(stride, stride),
        padding=((size // 2, size // 2),) * 2,
        kernel_init=ZERO if zero else TORCH_KERNEL,
        dtype=dtype,
        name=name,
    )


def halved(x: Images) -> Float[Array, "batch half_height half_width channels"]:
    """Returns the means of squares of 2x2 pixels."""
    batch, height, width, channels = x.shape
    return x.reshape(batch, height // 2, 2, width // 2, 2, channels).mean((2, 4))


def doubled(x: Images) -> Float[Array, "batch double_height double_width channels"]:
    """Repeats each pixel in a square of 2x2."""
    return x.repeat(2, axis=1).repeat(2, axis=2)


RESAMPLE = {"none": lambda x: x, "down": halved, "up": doubled}


class Norm(nn.Module):
    """Group norm with `groups` groups, or as many as leave each `smallest_group` channels."""

    groups: int
    smallest_group: int
    epsilon: float = 1e-5
    activation: Activation = identity

    @nn.compact
    def __call__(
        self, x: Images, scale: PerChannel | None = None, shift: PerChannel | None = None
    ) -> Images:
        groups = max(1, min(self.groups, x.shape[-1] // self.smallest_group))
        norm = GroupNorm(groups, self.epsilon, self.activation, name="group")
        return norm(x, scale, shift)


class ResidualBlock(nn.Module):
    """norm, SiLU, conv, then norm (scaled and shifted by the embedding), SiLU, dropout, conv.

    Args:
        scale_shift: True if the embedding scales by 1 + s and shifts after the second norm, False
            if it is added before this norm.
        resample: "down" and "up" halve and double the sides before the first convolution and in the
            shortcut.
    """

    features: int
    norm: type | partial
    scale_shift: bool
    dropout: float
    dtype: DTypeLike
    resample: str = "none"

    @nn.compact
    def __call__(
        self, x: Images, cond: Embedding, examples: Int[Array, "batch"] | None, *, train: bool
    ) -> Float[Array, "batch new_height new_width features"]:
        resample = RESAMPLE[self.resample]
        norm = partial(self.norm, activation=jax.nn.silu)
        h = resample(norm(name="norm_0")(x))
        h = square_conv(self.features, 3, "conv_0", self.dtype)(h)
        parts = 2 if self.scale_shift else 1
        projected = nn.Dense(parts * self.features, kernel_init=TORCH_KERNEL, name="embedding")(
            cond
        )
        if self.scale_shift:
            scale, shift = jnp.split(projected, 2, axis=-1)
            h = norm(name="norm_1")(h, 1 + scale, shift)
        else:
            h = norm(name="norm_1")(h + projected[:, None, None, :].astype(h.dtype))
        h = Dropout(self.dropout, name="dropout")(h, examples, train=train)
        h = square_conv(self.features, 3, "conv_1", self.dtype, zero=True)(h)
        x = resample(x)
        if x.shape[-1] != self.features:
            x = square_conv(self.features, 1, "shortcut", self.dtype)(x)
        return jnp.asarray(x, h.dtype) + h


class SelfAttention(nn.Module):
    """x + attention among all pixels of norm(x). order: see `split_heads`; train has no effect."""

    heads: int
    norm: type | partial
    order: str
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Images, *, train: bool = False) -> Images:
        batch, height, width, channels = x.shape
        h = square_conv(3 * channels, 1, "qkv", self.dtype)(self.norm(name="norm")(x))
        query, key, value = split_heads(
            h.reshape(batch, height * width, 3 * channels), self.heads, self.order
        )
        h = attention(query, key, value, 1 / np.sqrt(channels // self.heads))
        h = h.swapaxes(1, 2).reshape(batch, height, width, channels)
        return x + square_conv(channels, 1, "out", self.dtype, zero=True)(h)


def split_heads(
    qkv: Float[Array, "batch tokens triple"], heads: int, order: str
) -> tuple[Float[Array, "batch heads tokens depth"], ...]:
    """Splits a projection into queries, keys and values.

    order: layout of its channels. "legacy" is (head, q k v, depth), "new" is (q k v, head, depth),
    and "interleaved", of EDM, is (head, depth, q k v).
    """
    batch, tokens, channels = qkv.shape
    depth = channels // (3 * heads)
    match order:
        case "legacy":
            parts = qkv.reshape(batch, tokens, heads, 3, depth).transpose(3, 0, 2, 1, 4)
        case "new":
            parts = qkv.reshape(batch, tokens, 3, heads, depth).transpose(2, 0, 3, 1, 4)
        case "interleaved":
            parts = qkv.reshape(batch, tokens, heads, depth, 3).transpose(4, 0, 2, 1, 3)
    return tuple(parts)
