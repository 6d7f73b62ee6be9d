"""The blocks of DDPM++ and NCSN++ (arXiv:2011.13456, appendix H), in EDM's version."""

import math
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, DTypeLike, Float, Int

from diffusion_jax.diffusion.types import CNoise, Features, Images, Labels
from diffusion_jax.models.layers.adm_blocks import Norm, split_heads
from diffusion_jax.models.layers.attention import attention
from diffusion_jax.models.layers.convolutions import Conv, Dropout
from diffusion_jax.models.layers.remat import Maps

XAVIER = nn.initializers.xavier_uniform()
# XAVIER times 1e-5, for the last layer of a branch, and times sqrt(0.2), for queries, keys, values.
ALMOST_ZERO = nn.initializers.variance_scaling(1e-10, "fan_avg", "uniform")
SMALLER = nn.initializers.variance_scaling(0.2, "fan_avg", "uniform")
HALF = np.float32(math.sqrt(0.5))  # the weight of both parts of a sum

norm = partial(Norm, 32, 4, 1e-6)


def conv(
    features: int,
    size: int,
    name: str,
    dtype: DTypeLike,
    init: nn.initializers.Initializer = XAVIER,
) -> nn.Conv:
    """Returns a square convolution that keeps the sides."""
    padding = ((size // 2, size // 2),) * 2
    return Conv(features, (size, size), padding=padding, kernel_init=init, dtype=dtype, name=name)


def filtered(x: Images, taps: tuple[int, ...], direction: str, padding: int | None = None) -> Maps:
    """Halves ("down") or doubles ("up") the sides of x with a filter along both axes.

    Args:
        taps: weights of the filter, of even length; (1, 1) takes means, or repeats pixels.
        padding: zeros on each side; None for exactly halved or doubled sides.
    """
    weights = np.outer(taps, taps) / sum(taps) ** 2 * (4 if direction == "up" else 1)
    channels, count = x.shape[-1], len(taps)
    kernel = jnp.asarray(np.tile(weights[:, :, None, None], (1, 1, 1, channels)), x.dtype)
    own = (count - 1) // 2 if padding is None else padding
    down = direction == "down"
    around = own if down else count - 1 - own
    return jax.lax.conv_general_dilated(
        *(x, kernel, (2, 2) if down else (1, 1), ((around, around),) * 2),
        lhs_dilation=None if down else (2, 2),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=channels,
    )


class SongBlock(nn.Module):
    """A residual block with optional one-head self-attention; sums are scaled by sqrt(1/2).

    Args:
        resample: "none", or "down" and "up" before the first convolution and in the shortcut.
        attend: True for self-attention.
    """

    features: int
    dropout: float
    taps: tuple[int, ...]
    dtype: DTypeLike
    resample: str = "none"
    attend: bool = False

    @nn.compact
    def __call__(
        self,
        x: Images,
        cond: Float[Array, "batch embedding"],
        examples: Int[Array, "batch"] | None,
        *,
        train: bool,
    ) -> Maps:
        def resampled(x: Images) -> Maps:
            return x if self.resample == "none" else filtered(x, self.taps, self.resample)

        h = resampled(jax.nn.silu(norm(name="norm_0")(x)))
        h = conv(self.features, 3, "conv_0", self.dtype)(h)
        shift = nn.Dense(self.features, kernel_init=XAVIER, name="embedding")(cond)
        h = jax.nn.silu(norm(name="norm_1")(h + shift[:, None, None, :].astype(h.dtype)))
        h = Dropout(self.dropout, name="dropout")(h, examples, train=train)
        h = conv(self.features, 3, "conv_1", self.dtype, ALMOST_ZERO)(h)
        if self.resample != "none" or x.shape[-1] != self.features:
            x = conv(self.features, 1, "shortcut", self.dtype)(resampled(x))
        x = (jnp.asarray(x, h.dtype) + h) * jnp.asarray(HALF, h.dtype)
        return self._attended(x) if self.attend else x

    def _attended(self, x: Features) -> Features:
        batch, height, width, channels = x.shape
        qkv = conv(3 * channels, 1, "qkv", self.dtype, SMALLER)(norm(name="norm_2")(x))
        q, k, v = split_heads(qkv.reshape(batch, height * width, -1), 1, "interleaved")
        h = attention(q, k, v, 1 / math.sqrt(channels)).reshape(x.shape)
        h = conv(channels, 1, "out", self.dtype, ALMOST_ZERO)(h)
        return (x + h) * jnp.asarray(HALF, h.dtype)


class Fourier(nn.Module):
    """sin and cos of 2 pi f x, with random frequencies f that are not trained."""

    features: int

    @nn.compact
    def __call__(self, x: CNoise) -> Float[Array, "batch features"]:
        shape = (self.features // 2,)
        frequencies = self.param("fixed_frequencies", nn.initializers.normal(16.0), shape)
        angles = x.astype(jnp.float32)[:, None] * (2 * np.pi * jnp.asarray(frequencies))[None, :]
        return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)


class OneHot(nn.Module):
    """A dense layer on one-hot labels times sqrt(num_classes), with zeros for the null label."""

    num_classes: int
    features: int

    @nn.compact
    def __call__(self, labels: Labels) -> Float[Array, "batch features"]:
        shape = (self.num_classes, self.features)
        kernel = jnp.asarray(self.param("kernel", XAVIER, shape))
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,))
        null = labels == self.num_classes
        rows = kernel[jnp.where(null, 0, labels)] * np.float32(math.sqrt(self.num_classes))
        return jnp.where(null[:, None], 0.0, rows) + bias[None, :]
