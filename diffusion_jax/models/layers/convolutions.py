"""Convolutions, dense layers and dropout, with PyTorch's initialization; biases start at 0.

Only convolutions and matrix products run in bfloat16; norms are computed in float32.
"""

from functools import partial
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, DTypeLike, Float, Int

from diffusion_jax.diffusion.types import Features, Images
from diffusion_jax.models.layers.parameters import FastLookup, row_major
from diffusion_jax.models.layers.precompute import OF_PARAMS, precompute
from diffusion_jax.models.layers.transposed_convolution import ConvTranspose

# PyTorch's default for kernels, U(+-1/sqrt(fan_in)).
TORCH_KERNEL = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")

# The exact GELU, as in PyTorch; JAX would default to the tanh approximation.
gelu = partial(jax.nn.gelu, approximate=False)


class PrecomputedCast(FastLookup):
    """A mixin for Flax layers with a dtype: casts parameters outside the sampling loop."""

    def param(self, name: str, *args: Any, **options: Any) -> Array:
        value, layer = super().param(name, *args, **options), cast(Any, self)
        return precompute(
            layer, OF_PARAMS, name, lambda: row_major(jnp.asarray(value, layer.dtype))
        )


# By `type`, since jaxtyping cannot check the annotations that a class statement would inherit.
Conv = type("Conv", (PrecomputedCast, nn.Conv), {})
Dense = type("Dense", (PrecomputedCast, nn.Dense), {})


def conv(features: int, size: int, name: str, dtype: DTypeLike, **options: Any) -> nn.Conv:
    """Returns a square convolution with PyTorch's "same" padding on both sides.

    With even strides XLA's "SAME" would pad one side only.
    """
    padding = ((size // 2, size // 2),) * 2
    return Conv(
        features,
        (size, size),
        padding=padding,
        kernel_init=TORCH_KERNEL,
        dtype=dtype,
        name=name,
        **options,
    )


def double(features: int, size: int, name: str, dtype: DTypeLike) -> ConvTranspose:
    """Returns a transposed convolution that doubles both sides of a map; `size` is the kernel's."""
    return ConvTranspose(features, size, 2, dtype, TORCH_KERNEL, name=name)


def dense(features: int, name: str, dtype: DTypeLike) -> nn.Dense:
    """Returns a dense layer with PyTorch's initialization."""
    return Dense(features, kernel_init=TORCH_KERNEL, dtype=dtype, name=name)


def quarter_groups(channels: int) -> int:
    """Returns the number of groups of four channels; one group for at most four channels."""
    return channels // 4 if channels > 4 else 1


class WeightStandardizedConv(FastLookup, nn.Module):
    """A 3x3 convolution whose kernel has mean 0 and variance 1 for each output channel.

    Weight Standardization (arXiv:1903.10520), without a gain; see `standardized`.
    """

    features: int
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Images) -> Features:
        raw = self.param("kernel", TORCH_KERNEL, (3, 3, x.shape[-1], self.features))
        raw = jnp.asarray(raw)  # NumPy's in an imported model
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,))

        def prepared() -> Float[Array, "height width channels features"]:
            return row_major(standardized(raw).astype(self.dtype))

        kernel = precompute(self, OF_PARAMS, "kernel", prepared)
        shift = precompute(self, OF_PARAMS, "bias", lambda: jnp.asarray(bias, self.dtype))
        y = jax.lax.conv_general_dilated(
            x.astype(self.dtype),
            kernel,
            window_strides=(1, 1),
            padding=((1, 1), (1, 1)),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        return y + shift[None, None, None, :]


def standardized(
    kernel: Float[Array, "height width channels features"],
) -> Float[Array, "height width channels features"]:
    """Scales the kernel to mean 0 and variance 1 for each output channel, with epsilon 1e-5.

    Both moments come from one pass over the distances to one weight of the channel, so that a large
    mean costs no digits.
    """
    anchor = jax.lax.stop_gradient(kernel[:1, :1, :1])
    distance = kernel - anchor
    mean = jnp.mean(distance, axis=(0, 1, 2), keepdims=True)
    variance = jnp.mean(distance**2, axis=(0, 1, 2), keepdims=True) - mean**2
    return (distance - mean) * jax.lax.rsqrt(variance + 1e-5)


class Dropout(nn.Module):
    """Dropout with a mask that depends on the example's global index, and not on its device.

    whole_channels: True drops whole feature maps (PyTorch's Dropout2d) instead of single values.
    """

    rate: float
    whole_channels: bool = False

    @nn.compact
    def __call__(self, x: Images, examples: Int[Array, "batch"] | None, *, train: bool) -> Images:
        if not train or self.rate == 0:
            return x
        shape = (1, 1, x.shape[-1]) if self.whole_channels else x.shape[1:]
        assert examples is not None, "dropout needs the indices of the examples"
        keys = jax.vmap(jax.random.fold_in, (None, 0))(self.make_rng("dropout"), examples)
        keep = jax.vmap(lambda key: jax.random.bernoulli(key, 1 - self.rate, shape))(keys)
        return jnp.where(keep, x / (1 - self.rate), 0)
