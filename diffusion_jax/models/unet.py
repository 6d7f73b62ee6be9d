"""The U-Net whose blocks are selected by a string in the config."""

from collections.abc import Mapping
from functools import partial
from itertools import pairwise
from typing import Any

import jax.numpy as jnp
from flax.core import FrozenDict
from jaxtyping import Array, Float, Int

from diffusion_jax.diffusion.types import CNoise, Condition, NetworkOutput
from diffusion_jax.models.field_types import (
    Count,
    CountOrZero,
    Dtype,
    Rate,
    Sides,
    check_fields,
    dtype_of,
)
from diffusion_jax.models.layers.attention import ChannelAttention
from diffusion_jax.models.layers.block_chain import (
    BLOCKS,
    Blocks,
    block_options,
    own_options,
    parse_blocks,
)
from diffusion_jax.models.layers.block_interface import Conditioning
from diffusion_jax.models.layers.convnext import ConvNeXtBlock
from diffusion_jax.models.layers.convolutions import conv, double, quarter_groups
from diffusion_jax.models.layers.embeddings import (
    LabelEmbedding,
    TimeEmbedding,
    TimeMLP,
    sinusoidal,
    time_embedding_kind,
)
from diffusion_jax.models.layers.original import original_frequencies, original_sinusoidal
from diffusion_jax.models.layers.precompute import OF_CONDITION, OF_LEVEL, precompute
from diffusion_jax.models.layers.remat import check_sides
from diffusion_jax.models.network import Network


class UNet(Network):
    """A U-Net with a learned variance and a chain of blocks at each level.

    stem -> levels down -> middle -> levels up -> tail -> head -> two small heads, for the estimate
    and the variance. Level i = 0 .. levels has width * 2^(growth * i) channels. On the way down a
    level applies `blocks`, stores the result for the skip connection, and halves the sides by a
    strided convolution. On the way up a transposed convolution doubles the sides, and the skip
    connection is concatenated. Sides must be divisible by 2^levels.

    Args:
        width: channels after the stem.
        levels: number of halvings.
        blocks: names in BLOCKS, comma-separated.
        growth: log2 of the ratio of channels between levels.
        time_dim: width of the timestep embedding.
        label_dim: width of the label embedding.
        window, num_heads, dropout, original_quirks: see `Block`.
        time_embedding: "standard", or a kind of `original_sinusoidal`; see `time_embedding_kind`.
        dtype: of convolutions and matrix products, see `dtype_of`. Parameters, norms,
            embeddings and the output are float32.
        remat: see `apply_block`.
        options: of single blocks, by name, such as {"conv": {"expansion": 4}}.
    """

    width: Count = 128
    levels: Count = 3
    blocks: str = "res,clsAtn,chnAtn"
    growth: CountOrZero = 1
    time_dim: Count = 512
    label_dim: Count = 512
    window: Count = 16
    num_heads: Count = 8
    dropout: Rate = 0.0
    original_quirks: bool = False
    time_embedding: TimeEmbedding = "auto"
    dtype: Dtype = "auto"
    remat: Sides = ()
    options: Mapping[str, Mapping[str, Any]] = FrozenDict()

    @classmethod
    def option_sections(cls) -> dict[str, Any]:
        return {"options": block_options()}

    @property
    def learns_variance(self) -> bool:
        return True

    @property
    def embedding_period(self) -> int:
        published = time_embedding_kind(self.time_embedding, self.original_quirks) == "published"
        return 2 if published else 1

    def forward(self, x, c_noise, condition, train, examples):
        dtype = jnp.dtype(dtype_of(self.dtype))
        shared = {
            "original_quirks": self.original_quirks,
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
        skips = []
        for i, features in enumerate(widths[1:]):
            x = level(features=features, name=f"down_{i}")(x, cond, train=train)
            skips.append(x)
            x = conv(features, 3, f"down_{i}_halve", dtype, strides=2)(x)

        x = level(features=widths[-1], name="middle_0")(x, cond, train=train)
        x = ChannelAttention(widths[-1], name="middle_1")(x, cond, train=train)
        x = level(features=widths[-1], name="middle_2")(x, cond, train=train)

        for i in reversed(range(self.levels)):
            x = double(widths[i + 1], 4, f"up_{i}_double", dtype)(x)
            x = jnp.concatenate([x, skips.pop()], axis=-1)
            x = level(features=widths[i], name=f"up_{i}")(x, cond, train=train)

        x = level(features=widths[0], name="tail_0")(x, cond, train=train)
        x = level(features=2 * self.channels, name="tail_1")(x, cond, train=train)
        x = conv(2 * self.channels, 7, "head", jnp.float32)(x)
        variance, estimate = jnp.split(x, 2, axis=-1)
        return NetworkOutput(
            estimate=ConvNeXtBlock(self.channels, name="noise_head")(estimate, None, train=train),
            variance_fraction=ConvNeXtBlock(self.channels, name="variance_head")(
                variance, None, train=train
            ),
        )

    def _conditioning(
        self, c_noise: CNoise, labels: Condition, examples: Int[Array, "batch"] | None
    ) -> Conditioning:
        label = None
        if labels is not None:
            table = LabelEmbedding(self.num_classes, self.label_dim, name="label_embedding")
            label = precompute(self, OF_CONDITION, "label", lambda: table(labels))
        kind = time_embedding_kind(self.time_embedding, self.original_quirks)
        mlp = TimeMLP(self.time_dim, name="time_mlp")

        def embed() -> Float[Array, "batch dim"]:
            if kind == "standard":
                return mlp(sinusoidal(c_noise, self.time_dim))
            return mlp(original_sinusoidal(c_noise, self.time_dim, kind, examples))

        time = precompute(self, OF_LEVEL, "time", embed)
        return Conditioning(time=time, label=label, examples=examples)

    def widths(self) -> list[int]:
        """Returns the channels of levels 0 .. levels."""
        return [self.width * 2 ** (self.growth * i) for i in range(self.levels + 1)]

    def check(self, resolution: int) -> None:
        _check(self, resolution)


def _check(unet: Network, resolution: int) -> None:
    """Raises ValueError if the fields do not fit each other, or images of this side."""
    blocks = parse_blocks(unet.blocks)
    for block in blocks:
        if BLOCKS[block].NEEDS_CLASSES and not unet.num_classes:
            raise ValueError(
                f"model.blocks={unet.blocks!r} has the block {block!r}, which needs classes, but "
                "model.num_classes is 0; drop the block or set the number of classes"
            )
    _check_options(unet)
    _check_groups(unet)
    kind = time_embedding_kind(unet.time_embedding, unet.original_quirks)
    if kind == "standard" and unet.time_dim % 2:
        raise ValueError(f"model.time_dim={unet.time_dim} is not even (sine and cosine halves)")
    if kind != "standard":
        original_frequencies(unet.time_dim)  # raises ValueError beyond its limit
    if resolution % 2**unet.levels:
        raise ValueError(
            f"data.resolution={resolution} is not divisible by 2^model.levels = "
            f"{2**unet.levels}; lower model.levels or choose another resolution"
        )
    sides = [resolution // 2**level for level in range(unet.levels + 1)]
    check_sides("remat", unet.remat, sides)
    for level, side in enumerate(sides):
        if "atn" in blocks and side > unet.window and side % unet.window:
            raise ValueError(
                f"The block 'atn' cuts maps of {side}x{side} (level {level}) into squares of "
                f"model.window={unet.window}, which does not divide them"
            )


def _check_options(unet: Network) -> None:
    for block, options in unet.options.items():
        known = own_options(BLOCKS[block]) if block in BLOCKS else {}
        if unknown := options.keys() - known.keys():
            raise ValueError(
                f"Unknown option model.options.{block}.{min(unknown)}; its options: "
                f"{', '.join(known) or 'none'}"
            )
        if known:
            check_fields(BLOCKS[block], f"model.options.{block}.", options)


def _check_groups(unet: Network) -> None:
    """Raises ValueError for channels that the norms of a block cannot cut into groups of four."""
    blocks, image, widths = parse_blocks(unet.blocks), unet.channels, unet.widths()
    ways = [*pairwise(widths), (widths[-1], widths[-1]), (widths[0], widths[0])]
    ways += [(2 * lower, upper) for upper, lower in pairwise(widths)]
    ways.append((widths[0], 2 * image))
    counts = {image}  # of the two heads
    for before, after in ways:
        places = zip(blocks, (before, *[after] * len(blocks)))
        counts |= {count for block, count in places if BLOCKS[block].GROUPS_OF_FOUR}
    for count in sorted(counts):
        if count % quarter_groups(count):
            raise ValueError(
                f"model.width={unet.width} and model.channels={image} give a layer of {count} "
                f"channels, which {unet.blocks} cannot cut into {quarter_groups(count)} equal "
                "groups; take a width that is a multiple of 4"
            )
