"""What ADM's U-Net and the classifier of noisy images are made of: an encoder, and a middle."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, DTypeLike, Float, Int, PyTree

from diffusion_jax.diffusion.types import CNoise, Images, Labels
from diffusion_jax.models.layers.adm import (
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


@dataclass(frozen=True)
class Parts:
    """Makes layers with the options of a network, inside its `__call__`.

    network: has the fields of `ADM`. cond: SiLU of the embedding. examples, train: see `Network`.
    """

    network: Any
    cond: Embedding
    examples: Int[Array, "batch"] | None
    train: bool

    @property
    def dtype(self) -> DTypeLike:
        return jnp.dtype(self.network.dtype)

    @property
    def norm(self) -> partial:
        return partial(Norm, 32, self.network.smallest_group)

    def residual(self, x: Images, features: int, name: str, resample: str = "none") -> Maps:
        network = self.network
        options = (self.norm, network.scale_shift, network.dropout, self.dtype, resample)
        return self._apply(
            ResidualBlock(features, *options, name=name), x, self.cond, self.examples
        )

    def attend(self, x: Images, name: str) -> Maps:
        network, channels = self.network, x.shape[-1]
        heads = network.num_heads
        if network.head_channels:
            heads = channels // network.head_channels
        options = (self.norm, network.qkv_order, self.dtype)
        return self._apply(SelfAttention(heads, *options, name=name), x)

    def _apply(self, block: nn.Module, x: Images, *told: PyTree) -> Maps:
        return apply_block(block, x, *told, remat=self.network.remat, train=self.train)

    def resampled(self, x: Images, way: str, name: str) -> Maps:
        """x with halved ("down") or doubled ("up") sides."""
        network, channels = self.network, x.shape[-1]
        if network.resample_blocks:
            return self.residual(x, channels, name, way)
        if way == "down":
            if not network.conv_resample:
                return halved(x)
            return square_conv(channels, 3, name, self.dtype, stride=2)(x)
        x = doubled(x)
        return square_conv(channels, 3, name, self.dtype)(x) if network.conv_resample else x

    def encode(self, x: Images) -> tuple[Maps, list[Maps]]:
        """Stem and levels down: (x, what is kept for the way up)."""
        network, widths = self.network, self.network.widths()
        x = square_conv(widths[0], 3, "stem", self.dtype)(x)
        kept = [x]
        for level, features in enumerate(widths):
            for index in range(network.blocks):
                x = self.residual(x, features, f"down_{level}_{index}_res")
                if network.attends(x.shape[1]):
                    x = self.attend(x, f"down_{level}_{index}_attention")
                kept.append(x)
            if level < len(widths) - 1:
                x = self.resampled(x, "down", f"down_{level}_shrink")
                kept.append(x)
        return x, kept

    def middle(self, x: Images) -> Maps:
        x = self.residual(x, x.shape[-1], "middle_0_res")
        x = self.attend(x, "middle_1_attention")
        return self.residual(x, x.shape[-1], "middle_2_res")


def embedding(
    module: nn.Module,
    c_noise: CNoise,
    labels: Labels | None,
    *,
    width: int,
    table: LabelEmbedding | None,
) -> Embedding:
    """SiLU of the sum of what is made of the c_noise and of the label, (batch, 4 width).

    module: whose layers "time_0" and "time_1" are. table: of the labels.
    """
    first, second = (
        nn.Dense(4 * width, kernel_init=TORCH_KERNEL, name=f"time_{index}") for index in (0, 1)
    )

    def time() -> Float[Array, "batch embedding"]:
        return second(jax.nn.silu(first(sinusoidal(c_noise, width, cosine_first=True))))

    cond = precompute(module, OF_LEVEL, "time", time)
    if labels is not None:
        cond += precompute(module, OF_CONDITION, "label", lambda: table(labels))
    return jax.nn.silu(cond)
