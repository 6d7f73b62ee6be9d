"""The U-Net whose blocks a string in the config selects."""

from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar

import flax.linen as nn
import jax.numpy as jnp
from flax.core import FrozenDict
from jaxtyping import Array, Float, Int

from diffusion_jax.diffusion.types import CNoise, Condition, Images, NetworkOutput
from diffusion_jax.models.layers import unet_checks
from diffusion_jax.models.layers.attention import ChannelAttention
from diffusion_jax.models.layers.block_chain import Blocks, block_options, parse_blocks
from diffusion_jax.models.layers.blocks import Conditioning
from diffusion_jax.models.layers.convnext import ConvNeXtBlock
from diffusion_jax.models.layers.convolutions import conv, double
from diffusion_jax.models.layers.embeddings import (
    LabelEmbedding,
    TimeMLP,
    sinusoidal,
    time_embedding_kind,
)
from diffusion_jax.models.layers.original import original_sinusoidal
from diffusion_jax.models.layers.precompute import OF_CONDITION, OF_LEVEL, precompute
from diffusion_jax.models.network import Network


class UNet(Network):
    """(x, c_noise, labels) -> NetworkOutput, with a learned variance.

    stem -> levels down -> middle -> levels up -> tail -> head -> two small heads for the noise and
    the variance. Level i = 0 .. levels has width * 2^(growth * i) channels. Each level runs
    `blocks`, is kept for the way up, and halves the resolution by a strided convolution; on the way
    up a transposed convolution doubles it and what was kept is concatenated behind.

    behaviour, window, num_heads, dropout: see `Block`. options: of single blocks, by name, such as
    {"conv": {"expansion": 4}}. time_embedding: "standard", or a kind of `original_sinusoidal`;
    "auto" is "standard" for corrected and "head" for original behaviour. dtype: "float32" or
    "bfloat16", for convolutions and matrix products; parameters, norms, embeddings and the output
    are float32. remat: see `apply_block`. The images' sides must be divisible by 2^levels.
    """

    channels: int
    num_classes: int
    width: int = 128
    levels: int = 3
    blocks: str = "res,clsAtn,chnAtn"
    growth: int = 1
    time_dim: int = 512
    label_dim: int = 512
    window: int = 16
    num_heads: int = 8
    dropout: float = 0.0
    behaviour: str = "corrected"
    time_embedding: str = "auto"
    dtype: str = "float32"
    remat: str = ""
    options: Mapping[str, Mapping[str, Any]] = FrozenDict()

    FIELDS: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "at_least_1": (
            *("channels", "width", "levels"),
            *("time_dim", "label_dim", "window", "num_heads"),
        ),
        "at_least_0": ("growth", "num_classes"),
        "in_0_to_1": ("dropout",),
        "dtype": ("dtype",),
    }

    @classmethod
    def option_sections(cls) -> dict[str, Any]:
        return {"options": block_options()}

    @property
    def learns_variance(self) -> bool:
        return True

    @property
    def embedding_period(self) -> int:
        published = time_embedding_kind(self.time_embedding, self.behaviour) == "published"
        return 2 if published else 1

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
        dtype = jnp.dtype(self.dtype)
        shared = {
            "behaviour": self.behaviour,
            "window": self.window,
            "num_heads": self.num_heads,
            "dropout": self.dropout,
            "dtype": dtype,
        }
        names = parse_blocks(self.blocks)
        level = partial(Blocks, names, shared=shared, own=self.options, remat=self.remat)
        widths = self.widths()
        cond = self._conditioning(c_noise, condition, examples)

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
            x = double(widths[i + 1], 4, f"up_{i}_double", dtype)(x)
            x = jnp.concatenate([x, kept.pop()], axis=-1)
            x = level(features=widths[i], name=f"up_{i}")(x, cond, train=train)

        x = level(features=widths[0], name="tail_0")(x, cond, train=train)
        x = level(features=2 * self.channels, name="tail_1")(x, cond, train=train)
        x = conv(2 * self.channels, 7, "head", jnp.float32)(x)
        variance, noise = jnp.split(x, 2, axis=-1)
        return NetworkOutput(
            estimate=ConvNeXtBlock(self.channels, name="noise_head")(noise, None, train=train),
            variance_fraction=ConvNeXtBlock(self.channels, name="variance_head")(
                variance, None, train=train
            ),
        )

    def _conditioning(
        self, c_noise: CNoise, labels: Condition, examples: Int[Array, "batch"] | None
    ) -> Conditioning:
        self.check_condition(labels)
        label = None
        if labels is not None:
            table = LabelEmbedding(self.num_classes, self.label_dim, name="label_embedding")
            label = precompute(self, OF_CONDITION, "label", lambda: table(labels))
        kind = time_embedding_kind(self.time_embedding, self.behaviour)
        mlp = TimeMLP(self.time_dim, name="time_mlp")

        def time() -> Float[Array, "batch dim"]:
            if kind == "standard":
                return mlp(sinusoidal(c_noise, self.time_dim))
            return mlp(original_sinusoidal(c_noise, self.time_dim, kind, examples))

        time = precompute(self, OF_LEVEL, "time", time)
        return Conditioning(time=time, label=label, examples=examples)

    def widths(self) -> list[int]:
        """The channels of levels 0 .. levels."""
        return [self.width * 2 ** (self.growth * i) for i in range(self.levels + 1)]

    def check(self, resolution: int) -> None:
        unet_checks.check(self, resolution)
