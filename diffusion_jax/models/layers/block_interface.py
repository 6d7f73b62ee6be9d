"""The interface of the blocks that `config.model.blocks` strings together."""

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
    """What every block is told besides the image.

    time: (batch, time_dim), the timestep embedding. label: (batch, label_dim), or None in a model
    without classes. examples: (batch,), indices in the global batch, from which dropout draws.
    """

    time: Leaf
    label: Leaf
    examples: Leaf


class Block(nn.Module):
    """A block maps (x, cond, *, train) to an image with `features` channels of the same size.

    Blocks that mix or weigh channels (`clsAtn`, `atn`, `chnAtn`) keep the number of channels.
    behaviour: "corrected" or "original" (what gmongaras/Diffusion_models_from_scratch computes);
    the parameters are the same. window: side of the windows of `atn`, in pixels. num_heads: of
    `atn`. dropout: rate in `res` and `conv`. dtype: of convolutions and matrix products.
    """

    # Whether a block can change the number of channels, cuts those of its input into groups of four
    # for a norm, or needs classes.
    CHANGES_CHANNELS: ClassVar[bool] = False
    GROUPS_OF_FOUR: ClassVar[bool] = False
    NEEDS_CLASSES: ClassVar[bool] = False

    features: int
    behaviour: str = "corrected"
    window: int = 16
    num_heads: int = 8
    dropout: float = 0.0
    dtype: DTypeLike = jnp.float32

    def __call__(self, x: Images, cond: Conditioning, *, train: bool) -> Features:
        raise NotImplementedError
