"""A U-Net with self-attention after every change of resolution, that of MyDiffusionModel.

github.com/Lionelding/MyDiffusionModel, after github.com/dome272/Diffusion-Models-pytorch.
"""

from collections.abc import Mapping
from functools import partial
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, DTypeLike, Float, Int

from diffusion_jax.diffusion.types import CNoise, Condition, Features, Images, NetworkOutput
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
    """(x, c_noise, labels) -> NetworkOutput.

    Three levels down to 4 width channels, three convolutions twice as wide, three levels up. The
    embedding of timestep and class is added to what each level makes. time_dim: its width, even.
    remat: see `apply_block`; stem and middle are left out. dtype: "float32" or "bfloat16", for
    convolutions and matrix products; parameters, norms, embeddings and the output are float32. The
    images' sides must be divisible by 8.
    """

    channels: int
    num_classes: int
    width: int = 64
    time_dim: int = 256
    remat: str = ""
    dtype: str = "float32"

    FIELDS: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "at_least_1": ("channels", "width", "time_dim"),
        "at_least_0": ("num_classes",),
        "dtype": ("dtype",),
    }

    def check(self, resolution: int) -> None:
        if resolution % 2**HALVINGS:
            raise ValueError(f"data.resolution={resolution} is not divisible by {2**HALVINGS}")
        check_sides(self.remat, [resolution >> i for i in range(HALVINGS + 1)])
        if self.width % HEADS:
            raise ValueError(f"model.width={self.width} is not divisible by {HEADS}, the heads")
        if self.time_dim % 2:
            raise ValueError(f"model.time_dim={self.time_dim} must be even")

    @nn.compact
    def __call__(
        self,
        x: Images,
        c_noise: CNoise,
        condition: Condition = None,
        *,
        train: bool = False,
        examples: Int[Array, "batch"] | None = None,
    ) -> NetworkOutput:
        self.check_condition(condition)
        dtype, width = jnp.dtype(self.dtype), self.width
        cond = precompute(self, OF_LEVEL, "time", lambda: sinusoidal(c_noise, self.time_dim))
        if condition is not None:
            table = LabelEmbedding(self.num_classes, self.time_dim, name="label_embedding")
            cond += precompute(self, OF_CONDITION, "label", lambda: table(condition))

        def level(x: Images, features: int, middle: int, name: str) -> Features:
            how = {"remat": self.remat, "train": train, "is_told": False}
            x = apply_block(Level(features, middle, dtype, name=name), x, cond, **how)
            return apply_block(SelfAttention(dtype, name=f"{name}_attention"), x, **how)

        x = DoubleConv(width, width, dtype, name="stem")(x)
        kept = [x]
        for i, features in enumerate((2 * width, 4 * width, 4 * width)):
            x = level(nn.max_pool(x, (2, 2), (2, 2)), features, features, f"down_{i}")
            kept.append(x)
        kept.pop()
        for i, features in enumerate((8 * width, 8 * width, 4 * width)):
            x = DoubleConv(features, features, dtype, name=f"middle_{i}")(x)
        for i, features in reversed(list(enumerate((width, width, 2 * width)))):
            x = jnp.concatenate([kept.pop(), doubled(x)], axis=-1)
            x = level(x, features, x.shape[-1] // 2, f"up_{i}")
        return NetworkOutput(conv(self.channels, 1, "head", jnp.float32)(x))


class Level(nn.Module):
    """A residual pair of convolutions, another one to `features` channels, + the embedding."""

    features: int
    middle: int
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Images, cond: Embedding) -> Features:
        channels = x.shape[-1]
        x = gelu(x + DoubleConv(channels, channels, self.dtype, name="residual")(x))
        x = DoubleConv(self.features, self.middle, self.dtype, name="change")(x)
        told = dense(self.features, "embedding", jnp.float32)(jax.nn.silu(cond))
        return x + told[:, None, None, :].astype(x.dtype)


class DoubleConv(nn.Module):
    """conv to `middle` channels, norm, GELU, conv to `features`, norm; the norms have one group."""

    features: int
    middle: int
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Images) -> Features:
        def three(features: int, name: str) -> nn.Conv:
            options = {"padding": 1, "use_bias": False, "kernel_init": TORCH_KERNEL}
            return Conv(features, (3, 3), dtype=self.dtype, name=name, **options)

        x = gelu(GroupNorm(1, name="norm_0")(three(self.middle, "conv_0")(x)))
        return GroupNorm(1, name="norm_1")(three(self.features, "conv_1")(x))


class SelfAttention(nn.Module):
    """x + attention among all pixels, then + a perceptron; layer norms before both."""

    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Images) -> Images:
        batch, height, width, channels = x.shape
        depth = channels // HEADS
        norm = partial(nn.LayerNorm, epsilon=1e-5, dtype=jnp.float32, use_fast_variance=False)
        tokens = x.reshape(batch, height * width, channels).astype(jnp.float32)
        qkv = dense(3 * channels, "qkv", self.dtype)(norm(name="norm")(tokens))
        qkv = qkv.reshape(batch, -1, 3, HEADS, depth).transpose(2, 0, 3, 1, 4)
        h = attention(*qkv, 1 / np.sqrt(depth)).swapaxes(1, 2).reshape(tokens.shape)
        tokens = tokens + dense(channels, "out", self.dtype)(h).astype(jnp.float32)
        h = gelu(dense(channels, "expand", self.dtype)(norm(name="mlp_norm")(tokens)))
        tokens = tokens + dense(channels, "project", self.dtype)(h).astype(jnp.float32)
        return tokens.reshape(x.shape).astype(x.dtype)


def doubled(x: Images) -> Float[Array, "batch double_height double_width channels"]:
    """Twice the sides, bilinear, with the corners in their place (PyTorch's align_corners)."""
    for axis in (1, 2):
        weights = jnp.asarray(interpolation(x.shape[axis]), x.dtype)
        x = jnp.moveaxis(jnp.tensordot(weights, x, (1, axis)), 0, axis)
    return x


def interpolation(count: int) -> Float[np.ndarray, "doubled count"]:
    """The weights of `count` points for twice as many, evenly from the first to the last."""
    places = np.linspace(0, count - 1, 2 * count)
    return np.maximum(0, 1 - np.abs(places[:, None] - np.arange(count)))
