"""`conv`: the ConvNeXt block."""

from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp

from diffusion_jax.diffusion.types import Features, Images
from diffusion_jax.models.field_types import Count
from diffusion_jax.models.layers.block_interface import Block, Conditioning
from diffusion_jax.models.layers.convolutions import Dropout, conv, dense, gelu, quarter_groups
from diffusion_jax.models.layers.normalization import GroupNorm
from diffusion_jax.models.layers.precompute import OF_CONDITION, OF_LEVEL, precompute


class ConvNeXtBlock(Block):
    """Depthwise 7x7, norm, 1x1 to `expansion` times the channels, GELU, 1x1, and a shortcut.

    ConvNeXt (arXiv:2201.03545) with GroupNorm, and an expansion of 2 in place of its 4. After the
    norm, the timestep scales the channels and the class shifts them, unless cond is None, as in the
    heads of the U-Net. Dropout applies to whole channels of the result.
    """

    CHANGES_CHANNELS: ClassVar[bool] = True
    GROUPS_OF_FOUR: ClassVar[bool] = True

    expansion: Count = 2

    @nn.compact
    def __call__(self, x: Images, cond: Conditioning | None, *, train: bool) -> Features:
        old, new = x.shape[-1], self.features
        h = conv(old, 7, "depthwise", self.dtype, feature_group_count=old)(x)
        scale = shift = None
        if cond is not None:
            time, label = dense(old, "time", self.dtype), dense(old, "label", self.dtype)
            scale = precompute(self, OF_LEVEL, "scale", lambda: time(cond.time).astype(jnp.float32))
        if cond is not None and cond.label is not None:
            shift = precompute(
                self, OF_CONDITION, "shift", lambda: label(cond.label).astype(jnp.float32)
            )
        h = GroupNorm(quarter_groups(old), name="norm")(h, scale, shift)
        h = gelu(conv(self.expansion * old, 1, "expand", self.dtype)(h))
        h = conv(new, 1, "project", self.dtype)(h)
        if cond is not None:
            dropout = Dropout(self.dropout, whole_channels=True, name="dropout")
            h = dropout(h, cond.examples, train=train)

        shortcut = x if old == new else conv(new, 1, "shortcut", self.dtype)(x)
        return jnp.asarray(shortcut, self.dtype) + h
