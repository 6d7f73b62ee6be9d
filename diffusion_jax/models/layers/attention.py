"""`clsAtn`, `atn`, `chnAtn`: attention over channels by class, over pixels, over channels."""

import math
from collections.abc import Callable
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, DTypeLike, Float

from diffusion_jax.diffusion.types import Images
from diffusion_jax.models.layers import original
from diffusion_jax.models.layers.block_interface import Block, Conditioning
from diffusion_jax.models.layers.convolutions import TORCH_KERNEL, conv, dense, quarter_groups
from diffusion_jax.models.layers.normalization import GroupNorm
from diffusion_jax.models.layers.parameters import FastLookup, row_major
from diffusion_jax.models.layers.precompute import OF_CONDITION, OF_PARAMS, precompute

# A matrix for each example, computed from its class.
ByClass = Float[Array, "batch channels channels"]


class ClassAttention(Block):
    """`clsAtn`: channels attend to channels, with queries and keys made from the class.

    A_cd = softmax over d of (q_c k_d), and channel c becomes h_c + sum_d A_cd h_d. The term h_c is
    kept because A is close to an average while queries and keys are small. The original sums A over
    d before the product, which gives 1: the class has no influence, and queries and keys have no
    effect.
    """

    GROUPS_OF_FOUR: ClassVar[bool] = True
    NEEDS_CLASSES: ClassVar[bool] = True

    @nn.compact
    def __call__(self, x: Images, cond: Conditioning, *, train: bool) -> Images:
        if cond.label is None:
            raise ValueError("The block 'clsAtn' needs classes: set num_classes or drop the block")
        channels = x.shape[-1]
        h = GroupNorm(quarter_groups(channels), name="norm_in")(x)
        query = dense(channels, "query", jnp.float32)(cond.label)
        key = dense(channels, "key", jnp.float32)(cond.label)

        def weights() -> ByClass:
            return jax.nn.softmax(query[:, :, None] * key[:, None, :]).astype(self.dtype)

        if self.original_quirks:  # the compiler drops queries and keys
            h = conv(channels, 1, "out", self.dtype)(h)
        elif worth_folding(h):
            h = FoldedMixing(self.dtype, name="out")(h, weights)
        else:
            mixing = precompute(self, OF_CONDITION, "weights", weights)
            h = h + jnp.einsum("bcd,bhwd->bhwc", mixing, h)
            h = conv(channels, 1, "out", self.dtype)(h)
        return x + GroupNorm(quarter_groups(channels), name="norm_out")(h)


def worth_folding(h: Images) -> bool:
    """True if a product of matrices costs less than a product with all pixels.

    XLA on GPUs rejects the gradient of very narrow products, which would save nothing.
    """
    _, height, width, channels = h.shape
    return 16 <= channels < height * width


class FoldedMixing(FastLookup, nn.Module):
    """The 1x1 convolution of h_c + sum_d A_cd h_d as one product, with a kernel for each example.

    A is folded into the kernel W: W_do + sum_c A_cd W_co. The parameters are those of `conv`.
    """

    dtype: DTypeLike

    @nn.compact
    def __call__(self, h: Images, weights: Callable[[], ByClass]) -> Images:
        channels = h.shape[-1]
        raw = self.param("kernel", TORCH_KERNEL, (1, 1, channels, channels))
        bias = self.param("bias", nn.initializers.zeros_init(), (channels,))
        whole = jnp.asarray(raw)[0, 0]  # NumPy's in an imported model

        def folded() -> ByClass:
            kernel = row_major(whole.astype(self.dtype))
            mixed = jnp.einsum("bcd,co->bdo", weights(), kernel, preferred_element_type=jnp.float32)
            return (whole[None] + mixed).astype(self.dtype)

        kernel = precompute(self, OF_CONDITION, "kernel", folded)
        shift = precompute(self, OF_PARAMS, "bias", lambda: jnp.asarray(bias, self.dtype))
        h = jnp.einsum("bhwd,bdo->bhwo", h.astype(self.dtype), kernel)
        return h + shift[None, None, None, :]


class WindowAttention(Block):
    """`atn`: multi-head self-attention among the pixels of each window x window square.

    A map that is not larger than the window is one window. The number of heads is the greatest
    common divisor of num_heads and the channels.
    """

    GROUPS_OF_FOUR: ClassVar[bool] = True

    @nn.compact
    def __call__(self, x: Images, cond: Conditioning, *, train: bool) -> Images:
        channels = x.shape[-1]
        h = GroupNorm(quarter_groups(channels), name="norm")(x)
        key, query, value = jnp.split(conv(3 * channels, 1, "kqv", self.dtype)(h), 3, axis=-1)
        if self.original_quirks:
            h = original.scrambled_attention(query, key, value, self.window, attention)
        else:
            h = self._windows(query, key, value)
        return x + conv(channels, 1, "out", self.dtype)(h)

    def _windows(self, query: Images, key: Images, value: Images) -> Images:
        batch, height, width, channels = query.shape
        rows, columns = min(self.window, height), min(self.window, width)
        down, across = height // rows, width // columns
        heads = math.gcd(self.num_heads, channels)

        def to_windows(image: Images) -> Float[Array, "windows heads pixels depth"]:
            grid = image.reshape(batch, down, rows, across, columns, channels)
            grid = grid.transpose(0, 1, 3, 2, 4, 5)
            grid = grid.reshape(-1, rows * columns, heads, channels // heads)
            return grid.swapaxes(1, 2)

        scale = 1 / math.sqrt(channels // heads)
        h = attention(to_windows(query), to_windows(key), to_windows(value), scale)
        h = (
            h.swapaxes(1, 2)
            .reshape(batch, down, across, rows, columns, channels)
            .transpose(0, 1, 3, 2, 4, 5)
        )
        return h.reshape(batch, height, width, channels)


def attention(
    query: Float[Array, "a b queries depth"],
    key: Float[Array, "a b keys depth"],
    value: Float[Array, "a b keys depth"],
    scale: float,
) -> Float[Array, "a b queries depth"]:
    """Returns softmax(scale query key^T) value, with the softmax in float32."""
    logits = jnp.einsum("abqd,abkd->abqk", query, key, preferred_element_type=jnp.float32)
    weights = jax.nn.softmax(scale * logits).astype(value.dtype)
    return jnp.einsum("abqk,abkd->abqd", weights, value)


class ChannelAttention(Block):
    """`chnAtn`: channels scaled by the sigmoid of a 1-D convolution over the channel means.

    Efficient Channel Attention, ECA-Net (arXiv:1910.03151), with its kernel size rule.
    """

    @nn.compact
    def __call__(self, x: Images, cond: Conditioning, *, train: bool) -> Images:
        size = eca_kernel_size(x.shape[-1])
        kernel = self.param("kernel", TORCH_KERNEL, (size, 1, 1))
        means = jnp.mean(x.astype(jnp.float32), axis=(1, 2))[:, :, None]
        mixed = jax.lax.conv_general_dilated(
            means, kernel, (1,), [(size // 2, size // 2)], dimension_numbers=("NWC", "WIO", "NWC")
        )
        return x * jax.nn.sigmoid(mixed[:, None, None, :, 0]).astype(x.dtype)


def eca_kernel_size(channels: int) -> int:
    """Rounds |log2(channels) / 2 + 1/2| down, then up to an odd number. ECA-Net, eq. 12."""
    size = int(abs(math.log2(channels) / 2 + 0.5))
    return size if size % 2 else size + 1
