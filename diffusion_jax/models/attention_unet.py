"""The U-Net of MyDiffusionModel, with self-attention after every change of resolution.

github.com/Lionelding/MyDiffusionModel, after github.com/dome272/Diffusion-Models-pytorch.
"""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, DTypeLike, Float

from diffusion_jax.diffusion.types import Features, Images, NetworkOutput
from diffusion_jax.models.field_types import Count, Dtype, Sides, dtype_of
from diffusion_jax.models.layers.attention import attention
from diffusion_jax.models.layers.convolutions import TORCH_KERNEL, Conv, conv, dense, gelu
from diffusion_jax.models.layers.embeddings import LabelEmbedding, sinusoidal
from diffusion_jax.models.layers.normalization import GroupNorm
from diffusion_jax.models.layers.precompute import OF_CONDITION, OF_LEVEL, precompute
from diffusion_jax.models.layers.remat import apply_block, check_sides
from diffusion_jax.models.network import Network

Embedding = Float[Array, "batch time_dim"]
HEADS = 4
HALVINGS = 3


class AttentionUNet(Network):
    """Three levels down to 4 width channels, a middle twice as wide, and three levels up.

    The embedding of timestep and class is added after each level. Sides of images must be divisible
    by 8.

    Args:
        width: channels after the stem.
        time_dim: width of the embedding, an even number.
        remat: see `apply_block`; stem and middle are excluded.
        dtype: of convolutions and matrix products, see `dtype_of`. Parameters, norms,
            embeddings and the output are float32.
    """

    width: Count = 64
    time_dim: Count = 256
    remat: Sides = ()
    dtype: Dtype = "auto"

    def check(self, resolution: int) -> None:
        if resolution % 2**HALVINGS:
            raise ValueError(f"data.resolution={resolution} is not divisible by {2**HALVINGS}")
        check_sides("remat", self.remat, [resolution >> i for i in range(HALVINGS + 1)])
        if self.width % HEADS:
            raise ValueError(f"model.width={self.width} is not divisible by {HEADS}, the heads")
        if self.time_dim % 2:
            raise ValueError(f"model.time_dim={self.time_dim} must be even")

    def forward(self, x, c_noise, condition, train, examples):
        dtype, width = jnp.dtype(dtype_of(self.dtype)), self.width
        cond = precompute(self, OF_LEVEL, "time", lambda: sinusoidal(c_noise, self.time_dim))
        if condition is not None:
            table = LabelEmbedding(self.num_classes, self.time_dim, name="label_embedding")
            cond += precompute(self, OF_CONDITION, "label", lambda: table(condition))

        def level(x: Images, features: int, middle: int, name: str) -> Features:
            options = {"remat": self.remat, "train": train, "takes_train": False}
            x = apply_block(Level(features, middle, dtype, name=name), x, cond, **options)
            return apply_block(SelfAttention(dtype, name=f"{name}_attention"), x, **options)

        x = DoubleConv(width, width, dtype, name="stem")(x)
        skips = [x]
        for i, features in enumerate((2 * width, 4 * width, 4 * width)):
            x = level(nn.max_pool(x, (2, 2), (2, 2)), features, features, f"down_{i}")
            skips.append(x)
        skips.pop()
        for i, features in enumerate((8 * width, 8 * width, 4 * width)):
            x = DoubleConv(features, features, dtype, name=f"middle_{i}")(x)
        for i, features in reversed(list(enumerate((width, width, 2 * width)))):
            x = jnp.concatenate([skips.pop(), doubled(x)], axis=-1)
            x = level(x, features, x.shape[-1] // 2, f"up_{i}")
        return NetworkOutput(conv(self.channels, 1, "head", jnp.float32)(x))


class Level(nn.Module):
    """A residual pair of convolutions, a pair to `features` channels, and the added embedding."""

    features: int
    middle: int
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Images, cond: Embedding) -> Features:
        channels = x.shape[-1]
        x = gelu(x + DoubleConv(channels, channels, self.dtype, name="residual")(x))
        x = DoubleConv(self.features, self.middle, self.dtype, name="change")(x)
        shift = dense(self.features, "embedding", jnp.float32)(jax.nn.silu(cond))
        return x + shift[:, None, None, :].astype(x.dtype)


class DoubleConv(nn.Module):
    """conv to `middle` channels, norm, GELU, conv to `features`, norm; the norms have one group."""

    features: int
    middle: int
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Images) -> Features:
        def conv_3x3(features: int, name: str) -> nn.Conv:
            options = {"padding": 1, "use_bias": False, "kernel_init": TORCH_KERNEL}
            return Conv(features, (3, 3), dtype=self.dtype, name=name, **options)

        x = gelu(GroupNorm(1, name="norm_0")(conv_3x3(self.middle, "conv_0")(x)))
        return GroupNorm(1, name="norm_1")(conv_3x3(self.features, "conv_1")(x))


class SelfAttention(nn.Module):
    """Self-attention among all pixels and a perceptron, both residual and after layer norms."""

    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Images) -> Images:
        batch, height, width, channels = x.shape
        depth = channels // HEADS
        norm = partial(nn.LayerNorm, epsilon=1e-5, dtype=jnp.float32, use_fast_variance=False)
        tokens = x.reshape(batch, height * width, channels).astype(jnp.float32)
        qkv = dense(3 * channels, "qkv", self.dtype)(norm(name="norm")(tokens))
        q, k, v = qkv.reshape(batch, -1, 3, HEADS, depth).transpose(2, 0, 3, 1, 4)
        h = attention(q, k, v, 1 / np.sqrt(depth)).swapaxes(1, 2).reshape(tokens.shape)
        tokens = tokens + dense(channels, "out", self.dtype)(h).astype(jnp.float32)
        h = gelu(dense(channels, "expand", self.dtype)(norm(name="mlp_norm")(tokens)))
        tokens = tokens + dense(channels, "project", self.dtype)(h).astype(jnp.float32)
        return tokens.reshape(x.shape).astype(x.dtype)


def doubled(x: Images) -> Float[Array, "batch double_height double_width channels"]:
    """Doubles the sides by bilinear interpolation, with PyTorch's align_corners=True."""
    for axis in (1, 2):
        weights = jnp.asarray(interpolation(x.shape[axis]), x.dtype)
        x = jnp.moveaxis(jnp.tensordot(weights, x, (1, axis)), 0, axis)
    return x


def interpolation(count: int) -> Float[np.ndarray, "doubled count"]:
    """Returns the weights that interpolate `count` points at twice as many, evenly spaced ones."""
    places = np.linspace(0, count - 1, 2 * count)
    return np.maximum(0, 1 - np.abs(places[:, None] - np.arange(count)))
