"""The table of blocks, and chains of them given as text."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn

from diffusion_jax.diffusion.types import Features, Images
from diffusion_jax.models.field_types import Sides
from diffusion_jax.models.layers.attention import (
    ChannelAttention,
    ClassAttention,
    WindowAttention,
)
from diffusion_jax.models.layers.block_interface import Block, Conditioning
from diffusion_jax.models.layers.convnext import ConvNeXtBlock
from diffusion_jax.models.layers.remat import apply_block
from diffusion_jax.models.layers.residual import ResBlock

BLOCKS: dict[str, type[Block]] = {
    "res": ResBlock,
    "conv": ConvNeXtBlock,
    "clsAtn": ClassAttention,
    "atn": WindowAttention,
    "chnAtn": ChannelAttention,
}


def parse_blocks(blocks: str) -> tuple[str, ...]:
    """Splits a text such as "res,res,clsAtn,chnAtn" into block names.

    Raises:
        ValueError: a name is unknown, or the first block cannot change the channels.
    """
    names = tuple(name.strip() for name in blocks.split(","))
    known = ", ".join(BLOCKS)
    for name in names:
        if name not in BLOCKS:
            raise ValueError(f"Unknown block {name!r} in blocks={blocks!r}; known blocks: {known}")
    if not BLOCKS[names[0]].CHANGES_CHANNELS:
        raise ValueError(
            f"blocks={blocks!r} starts with {names[0]!r}, which keeps the number of channels; "
            f"start with one of: {', '.join(n for n, b in BLOCKS.items() if b.CHANGES_CHANNELS)}"
        )
    return names


class Blocks(nn.Module):
    """A chain of blocks, of which the first maps to `features` channels.

    Args:
        shared: options of every block.
        own: options of single blocks, by name.
        remat: see `apply_block`.
    """

    names: tuple[str, ...]
    features: int
    shared: Mapping[str, Any]
    own: Mapping[str, Mapping[str, Any]]
    remat: Sides = ()

    @nn.compact
    def __call__(self, x: Images, cond: Conditioning, *, train: bool) -> Features:
        for index, name in enumerate(self.names):
            options = {**self.shared, **self.own.get(name, {})}
            block = BLOCKS[name](self.features, **options, name=f"{index}_{name}")
            x = apply_block(block, x, cond, remat=self.remat, train=train)
        return x


def block_options() -> dict[str, dict[str, Any]]:
    """Returns the options of single blocks with their defaults, by block."""
    options = {name: own_options(block) for name, block in BLOCKS.items()}
    return {name: found for name, found in options.items() if found}


def own_options(block: type[Block]) -> dict[str, Any]:
    """Returns the options that a block adds to those of `Block`, with their defaults."""
    fields = block.__dataclass_fields__
    return {n: f.default for n, f in fields.items() if n not in Block.__dataclass_fields__}
