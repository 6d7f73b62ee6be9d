"""The encoder and the middle of ADM's U-Net, which the classifier of noisy images shares."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, DTypeLike, Float, PyTree

from diffusion_jax.diffusion.types import CNoise, Images, Labels
from diffusion_jax.models.field_types import Count, dtype_of
from diffusion_jax.models.layers.adm_blocks import (
    Embedding,
    Norm,
    ResidualBlock,
    SelfAttention,
    doubled,
    halved,
    square_conv,
)
from diffusion_jax.models.layers.convolutions import TORCH_KERNEL
from diffusion_jax.models.layers.embeddings import LabelEmbedding, sinusoidal
from diffusion_jax.models.layers.precompute import OF_CONDITION, OF_LEVEL, precompute
from diffusion_jax.models.layers.remat import Maps, apply_block
from diffusion_jax.models.multi_resolution import MultiResolutionNetwork
from diffusion_jax.models.network import Examples


class ADMEncoder(MultiResolutionNetwork):
    """The fields that ADM's U-Net and the classifier of noisy images share, and their checks.

    Args:
        num_heads: attention heads, if head_channels is None.
        head_channels: channels of an attention head.
        qkv_order: layout of the projection to queries, keys and values; see `split_heads`.
        scale_shift: see `ResidualBlock`.
        resample_blocks: True if residual blocks halve and double the sides, False for convolutions.
        conv_resample: False for means and repeated pixels in place of these convolutions.
        smallest_group: channels in a group of group norm at the least; there are at most 32 groups.
    """

    num_heads: Count = 4
    head_channels: Count | None = None
    qkv_order: Literal["legacy", "new", "interleaved"] = "legacy"
    scale_shift: bool = True
    resample_blocks: bool = True
    conv_resample: bool = True
    smallest_group: Count = 1

    def check(self, resolution: int) -> None:
        """Raises ValueError if the fields do not fit each other, or images of this side."""
        sides = self.channels_by_side(resolution)
        if self.width % 2:
            raise ValueError(f"model.width={self.width} must be even")
        name = "head_channels" if self.head_channels else "num_heads"
        for side in {*self.attention, min(sides)}:
            if sides[side] % getattr(self, name):
                raise ValueError(
                    f"model.{name}={getattr(self, name)} does not divide the {sides[side]} "
                    "channels of a level with attention"
                )
        self.check_groups(sides.values())

    def check_groups(self, widths: Iterable[int]) -> None:
        """Raises ValueError if one of these numbers of channels has no groups of one size."""
        for width in widths:
            if width % min(32, max(1, width // self.smallest_group)):
                raise ValueError(
                    f"{width} channels, of a level or of two joined ones, cannot be cut into "
                    f"groups of at least model.smallest_group={self.smallest_group}; choose "
                    "multiples of 32"
                )

    def embedding(self, c_noise: CNoise, labels: Labels | None, *, null_row: bool) -> Embedding:
        """Returns SiLU of the sum of the noise and label embeddings, (batch, 4 width).

        null_row: True if the null class has a row of its own in the table, False if it is 0.
        """
        dim = 4 * self.width
        first, second = (
            nn.Dense(dim, kernel_init=TORCH_KERNEL, name=f"time_{index}") for index in (0, 1)
        )

        def time() -> Float[Array, "batch embedding"]:
            return second(jax.nn.silu(first(sinusoidal(c_noise, self.width, cosine_first=True))))

        cond = precompute(self, OF_LEVEL, "time", time)
        if labels is not None:
            table = LabelEmbedding(self.num_classes, dim, null_row, name="label_embedding")
            cond += precompute(self, OF_CONDITION, "label", lambda: table(labels))
        return jax.nn.silu(cond)


@dataclass(frozen=True)
class ADMLayers:
    """Layers with the options of a network, created and applied inside its `forward`.

    cond: of `ADMEncoder.embedding`. train, examples: see `Network`.
    """

    network: ADMEncoder
    cond: Embedding
    train: bool
    examples: Examples | None

    @property
    def dtype(self) -> DTypeLike:
        return jnp.dtype(dtype_of(self.network.dtype))

    @property
    def norm(self) -> partial:
        return partial(Norm, 32, self.network.smallest_group)

    def encode(self, x: Images) -> tuple[Maps, list[Maps]]:
        """Applies the stem and the levels on the way down: (x, maps for the skip connections)."""
        network, widths = self.network, self.network.widths()
        x = square_conv(widths[0], 3, "stem", self.dtype)(x)
        skips = [x]
        for level, features in enumerate(widths):
            for index in range(network.blocks):
                x = self.residual(x, features, f"down_{level}_{index}_res")
                if x.shape[1] in network.attention:
                    x = self.attend(x, f"down_{level}_{index}_attention", network.num_heads)
                skips.append(x)
            if level < len(widths) - 1:
                x = self.resampled(x, "down", f"down_{level}_shrink")
                skips.append(x)
        return x, skips

    def middle(self, x: Images) -> Maps:
        """Applies the middle: two residual blocks around self-attention."""
        x = self.residual(x, x.shape[-1], "middle_0_res")
        x = self.attend(x, "middle_1_attention", self.network.num_heads)
        return self.residual(x, x.shape[-1], "middle_2_res")

    def residual(self, x: Images, features: int, name: str, resample: str = "none") -> Maps:
        """Applies a residual block."""
        network = self.network
        options = (self.norm, network.scale_shift, network.dropout, self.dtype, resample)
        return self._apply(
            ResidualBlock(features, *options, name=name), x, self.cond, self.examples
        )

    def attend(self, x: Images, name: str, heads: int) -> Maps:
        """Applies self-attention; heads: unless the network has `head_channels`."""
        network, channels = self.network, x.shape[-1]
        if network.head_channels:
            heads = channels // network.head_channels
        options = (self.norm, network.qkv_order, self.dtype)
        return self._apply(SelfAttention(heads, *options, name=name), x)

    def resampled(self, x: Images, direction: str, name: str) -> Maps:
        """Returns x with halved ("down") or doubled ("up") sides."""
        network, channels = self.network, x.shape[-1]
        if network.resample_blocks:
            return self.residual(x, channels, name, direction)
        if direction == "down":
            if not network.conv_resample:
                return halved(x)
            return square_conv(channels, 3, name, self.dtype, stride=2)(x)
        x = doubled(x)
        return square_conv(channels, 3, name, self.dtype)(x) if network.conv_resample else x

    def _apply(self, block: nn.Module, x: Images, *inputs: PyTree) -> Maps:
        return apply_block(block, x, *inputs, remat=self.network.remat, train=self.train)
