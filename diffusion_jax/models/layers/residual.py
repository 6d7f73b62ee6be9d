"""`res`: the residual block."""

from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from diffusion_jax.diffusion.types import Features, Images
from diffusion_jax.models.layers.block_interface import Block, Conditioning
from diffusion_jax.models.layers.convolutions import Dropout, WeightStandardizedConv, conv, dense
from diffusion_jax.models.layers.normalization import GroupNorm
from diffusion_jax.models.layers.precompute import OF_CONDITION, OF_LEVEL, precompute


class ResBlock(Block):
    """Two weight-standardized 3x3 convolutions with GroupNorm and SiLU, and a shortcut.

    After the first norm, the timestep scales the channels and the class shifts them. Dropout is
    before the second convolution.
    """

    CHANGES_CHANNELS: ClassVar[bool] = True

    @nn.compact
    def __call__(self, x: Images, cond: Conditioning, *, train: bool) -> Features:
        old, new = x.shape[-1], self.features
        groups = 8 if old > 4 and old % 8 == 0 and new % 8 == 0 else 1
        time, label = dense(new, "time", self.dtype), dense(new, "label", self.dtype)

        def scale_by_time() -> Float[Array, "batch features"]:
            return time(jax.nn.silu(cond.time)).astype(jnp.float32)

        def shift_by_label() -> Float[Array, "batch features"]:
            return label(jax.nn.silu(cond.label)).astype(jnp.float32)

        scale = precompute(self, OF_LEVEL, "scale", scale_by_time)
        shift = None
        if cond.label is not None:
            shift = precompute(self, OF_CONDITION, "shift", shift_by_label)

        h = WeightStandardizedConv(new, self.dtype, name="conv_0")(x)
        h = GroupNorm(groups, activation=jax.nn.silu, name="norm_0")(h, scale, shift)
        h = Dropout(self.dropout, name="dropout")(h, cond.examples, train=train)
        h = WeightStandardizedConv(new, self.dtype, name="conv_1")(h)
        groups = 8 if new > 4 and new % 8 == 0 else 1
        h = GroupNorm(groups, activation=jax.nn.silu, name="norm_1")(h)

        shortcut = x if old == new else conv(new, 1, "shortcut", self.dtype)(x)
        return jnp.asarray(shortcut, self.dtype) + h
