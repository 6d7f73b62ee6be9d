"""The magnitude-preserving U-Net of EDM2 (arXiv:2312.02696), configuration G."""

from functools import partial
from typing import Annotated, Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, DTypeLike, Float, Int, PyTree

from diffusion_jax.diffusion.types import CNoise, Condition, Images, NetworkOutput
from diffusion_jax.models.field_types import Bounds, Count, Rate, dtype_of
from diffusion_jax.models.layers.adm_blocks import RESAMPLE, split_heads
from diffusion_jax.models.layers.attention import attention
from diffusion_jax.models.layers.convolutions import Dropout
from diffusion_jax.models.layers.magnitude_preserving import (
    MPConv,
    MPFourier,
    MPLabel,
    mp_concatenate,
    mp_silu,
    mp_sum,
    normalized,
    normalized_kernel,
)
from diffusion_jax.models.layers.precompute import OF_CONDITION, OF_LEVEL, precompute
from diffusion_jax.models.layers.remat import Maps, apply_block
from diffusion_jax.models.multi_resolution import MultiResolutionNetwork


class EDM2(MultiResolutionNetwork):
    """EDM2's U-Net, with a predicted uncertainty for the loss.

    For the parameterization and the schedule "edm", whose c_noise is log(sigma) / 4.

    Args:
        head_channels: channels of an attention head.
        label_balance: t of `mp_sum` for the label embedding.
        concat_balance: t of `mp_concatenate` for skip connections.
        residual_balance: t of `mp_sum` for residual branches.
        attention_balance: t of `mp_sum` for self-attention.
        clip: largest absolute value of an activation after a block.
        uncertainty_dim: width of the embedding from which the uncertainty is estimated.
    """

    head_channels: Count = 64
    label_balance: Rate = 0.5
    concat_balance: Rate = 0.5
    residual_balance: Rate = 0.3
    attention_balance: Rate = 0.3
    clip: Annotated[float, Bounds(0)] = 256.0
    uncertainty_dim: Count = 128

    def check(self, resolution: int) -> None:
        sides = self.channels_by_side(resolution)
        for side in {*self.attention, min(sides)}:
            if sides[side] % self.head_channels:
                raise ValueError(
                    f"model.head_channels={self.head_channels} does not divide the {sides[side]} "
                    "channels of a level with attention"
                )

    def constrained(self, params: PyTree) -> PyTree:
        """Normalizes kernels to a mean square of 1 for each output. Eq. 67."""

        def constrain(path: tuple, leaf: Array) -> Array:
            return normalized_kernel(leaf) if path[-1].key == "kernel" else leaf

        return jax.tree_util.tree_map_with_path(constrain, params)

    def forward(self, x, c_noise, condition, train, examples):
        dtype, levels = jnp.dtype(dtype_of(self.dtype)), self.widths()
        cond = self._embedding(c_noise, condition)
        block = partial(
            MPBlock,
            head_channels=self.head_channels,
            balances=(self.residual_balance, self.attention_balance),
            dropout=self.dropout,
            clip=self.clip,
            dtype=dtype,
        )

        def encode(x: Images, features: int, name: str, **options: Any) -> Maps:
            layer = block(features, encoder=True, name=name, **options)
            return apply_block(layer, x, cond, examples, remat=self.remat, train=train)

        def decode(x: Images, features: int, name: str, **options: Any) -> Maps:
            layer = block(features, encoder=False, name=name, **options)
            return apply_block(layer, x, cond, examples, remat=self.remat, train=train)

        # A channel of ones takes the place of biases.
        x = jnp.concatenate([x, jnp.ones_like(x[..., :1])], axis=-1)
        x = MPConv(levels[0], 3, dtype, name="stem")(x)
        skips = [x]
        for level, features in enumerate(levels):
            if level:
                x = encode(x, levels[level - 1], f"down_{level}_shrink", resample="down")
                skips.append(x)
            for index in range(self.blocks):
                attend = x.shape[1] in self.attention
                x = encode(x, features, f"down_{level}_{index}", attend=attend)
                skips.append(x)

        x = decode(x, levels[-1], "middle_0", attend=True)
        x = decode(x, levels[-1], "middle_1")
        for level, features in reversed(list(enumerate(levels))):
            if level < len(levels) - 1:
                x = decode(x, levels[level + 1], f"up_{level}_grow", resample="up")
            for index in range(self.blocks + 1):
                x = mp_concatenate(x, skips.pop(), self.concat_balance)
                attend = x.shape[1] in self.attention
                x = decode(x, features, f"up_{level}_{index}", attend=attend)

        gain = self.param("head_gain", nn.initializers.zeros_init(), ())
        estimate = MPConv(self.channels, 3, dtype, name="head")(x, gain).astype(jnp.float32)
        embedding = MPFourier(self.uncertainty_dim, name="uncertainty_fourier")(c_noise)
        uncertainty = MPConv(1, 0, jnp.float32, name="uncertainty")(embedding)
        return NetworkOutput(estimate, uncertainty=uncertainty[:, 0])

    def _embedding(self, c_noise: CNoise, labels: Condition) -> Float[Array, "batch embedding"]:
        dim = max(self.widths())
        fourier = MPFourier(self.widths()[0], name="noise_fourier")
        noise = MPConv(dim, 0, jnp.float32, name="noise")
        cond = precompute(self, OF_LEVEL, "noise", lambda: noise(fourier(c_noise)))
        if labels is not None:
            table = MPLabel(self.num_classes, dim, name="label")
            label = precompute(self, OF_CONDITION, "label", lambda: table(labels))
            cond = mp_sum(cond, label, self.label_balance)
        return mp_silu(cond)


class MPBlock(nn.Module):
    """A residual branch and optional self-attention, in the order of encoder or decoder.

    Args:
        balances: t of the residual branch and of attention.
        resample: "none", "down" or "up", before the first convolution.
        attend: True for self-attention.
    """

    features: int
    encoder: bool
    head_channels: int
    balances: tuple[float, float]
    dropout: float
    clip: float
    dtype: DTypeLike
    resample: str = "none"
    attend: bool = False

    @nn.compact
    def __call__(
        self,
        x: Images,
        cond: Float[Array, "batch embedding"],
        examples: Int[Array, "batch"] | None,
        *,
        train: bool,
    ) -> Float[Array, "batch new_height new_width features"]:
        conv = partial(MPConv, dtype=self.dtype)
        x = RESAMPLE[self.resample](x)
        new = x.shape[-1] != self.features
        if self.encoder:
            x = conv(self.features, 1, name="shortcut")(x) if new else x
            x = normalized(x, (-1,))

        h = conv(self.features, 3, name="conv_0")(mp_silu(x))
        gain = self.param("embedding_gain", nn.initializers.zeros_init(), ())
        scale = 1 + MPConv(self.features, 0, jnp.float32, name="embedding")(cond, gain)
        h = mp_silu(h * scale[:, None, None, :].astype(h.dtype))
        h = Dropout(self.dropout, name="dropout")(h, examples, train=train)
        h = conv(self.features, 3, name="conv_1")(h)

        if not self.encoder and new:
            x = conv(self.features, 1, name="shortcut")(x)
        x = mp_sum(x, h, self.balances[0])
        if self.attend:
            x = mp_sum(x, self._attention(x, conv), self.balances[1])
        return jnp.clip(x, -self.clip, self.clip)

    def _attention(self, x: Images, conv: partial) -> Images:
        batch, height, width, channels = x.shape
        heads = channels // self.head_channels
        qkv = conv(3 * channels, 1, name="qkv")(x).reshape(batch, height * width, 3 * channels)
        parts = split_heads(qkv, heads, "interleaved")
        q, k, v = (normalized(part, (-1,)).astype(self.dtype) for part in parts)
        h = attention(q, k, v, 1 / np.sqrt(self.head_channels))
        h = h.swapaxes(1, 2).reshape(batch, height, width, channels)
        return conv(channels, 1, name="out")(h)
