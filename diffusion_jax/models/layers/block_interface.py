"""Interface of the blocks in the U-Net's chain."""

from dataclasses import dataclass
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import DTypeLike

from diffusion_jax.diffusion.types import Features, Images, Leaf


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Conditioning:
    """The conditioning of a block.

    Attributes:
        time: the timestep embedding, (batch, time_dim).
        label: the label embedding, (batch, label_dim), or None for a model without classes.
        examples: global index of each example, (batch,), which seeds its dropout mask.
    """

    time: Leaf
    label: Leaf
    examples: Leaf


class Block(nn.Module):
    """A block, which maps (x, cond, *, train) to an image of the same size.

    Args:
        features: channels of the output. A block without CHANGES_CHANNELS requires as many in x.
        original_quirks: True for the arithmetic of gmongaras/Diffusion_models_from_scratch, with
            the same parameters.
        window: side of the windows of `atn`, in pixels.
        num_heads: attention heads of `atn`.
        dropout: rate in `res` and `conv`.
        dtype: of convolutions and matrix products.
    """

    CHANGES_CHANNELS: ClassVar[bool] = False  # True if `features` may differ from x's channels
    GROUPS_OF_FOUR: ClassVar[bool] = False  # True if a norm cuts x's channels into groups of four
    NEEDS_CLASSES: ClassVar[bool] = False  # True if the block fails without a label embedding

    features: int
    original_quirks: bool = False
    window: int = 16
    num_heads: int = 8
    dropout: float = 0.0
    dtype: DTypeLike = jnp.float32

    def __call__(self, x: Images, cond: Conditioning, *, train: bool) -> Features:
        raise NotImplementedError(f"{type(self).__name__} must implement `__call__`")
