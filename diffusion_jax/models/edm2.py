"""The magnitude-preserving U-Net of EDM2 (arXiv:2312.02696), configuration G."""

from collections.abc import Mapping
from functools import partial
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, DTypeLike, Float, Int, PyTree

from diffusion_jax.diffusion.types import CNoise, Condition, Images, NetworkOutput
from diffusion_jax.models.layers.adm import RESAMPLE, split_heads
from diffusion_jax.models.layers.adm_encoder import Maps
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
from diffusion_jax.models.layers.remat import apply_block, check_sides
from diffusion_jax.models.layers.resolution_levels import (
    attending,
    channels_by_side,
    widths,
)
from diffusion_jax.models.network import Network


class EDM2(Network):
    """(x, c_noise, labels) -> NetworkOutput, with the uncertainty that its loss trains.

    For the parameterization and the schedule "edm", whose c_noise is log(sigma) / 4.

    multipliers, blocks, attention: as in `ADM`. head_channels: of an attention head. label_balance,
    concat_balance, residual_balance, attention_balance: t of the sums and concatenations of class,
    skip connection, residual and attention. clip: activations beyond it are cut off.
    uncertainty_dim: width of the embedding from which the uncertainty is estimated. remat:
    see `apply_block`. dtype: "float32" or "bfloat16", for what convolutions and matrix products
    take in; the rest is float32.
    """

    channels: int
    num_classes: int
    width: int = 128
    multipliers: str = "1,2,3,4"
    blocks: int = 3
    attention: str = "16,8"
    head_channels: int = 64
    dropout: float = 0.0
    label_balance: float = 0.5
    concat_balance: float = 0.5
    residual_balance: float = 0.3
    attention_balance: float = 0.3
    clip: float = 256.0
    uncertainty_dim: int = 128
    remat: str = ""
    dtype: str = "float32"

    FIELDS: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "at_least_1": ("channels", "width", "blocks", "head_channels", "uncertainty_dim"),
        "at_least_0": ("num_classes", "clip"),
        "in_0_to_1": (
            *("dropout", "label_balance", "concat_balance"),
            *("residual_balance", "attention_balance"),
        ),
        "dtype": ("dtype",),
    }

    def widths(self) -> list[int]:
        """The channels of each level."""
        return widths(self)

    def check(self, resolution: int) -> None:
        sides = channels_by_side(self, resolution)
        check_sides(self.remat, list(sides))
        for side in {*attending(self), min(sides)}:
            if sides[side] % self.head_channels:
                raise ValueError(
                    f"model.head_channels={self.head_channels} does not divide the {sides[side]} "
                    "channels of a level with attention"
                )

    def constrained(self, params: PyTree) -> PyTree:
        """Forced weight normalization: kernels have a mean square of 1 for each output. Eq. 67."""

        def constrain(path: tuple, leaf: Array) -> Array:
            return normalized_kernel(leaf) if path[-1].key == "kernel" else leaf

        return jax.tree_util.tree_map_with_path(constrain, params)

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
        self.check_condition(condition)
        dtype, levels = jnp.dtype(self.dtype), self.widths()
        sides = attending(self)
        cond = self._embedding(c_noise, condition)
        block = partial(
            MPBlock,
            head_channels=self.head_channels,
            balances=(self.residual_balance, self.attention_balance),
            dropout=self.dropout,
            clip=self.clip,
            dtype=dtype,
        )

        def encode(x: Images, features: int, name: str, **options: str | bool) -> Maps:
            layer = block(features, encoder=True, name=name, **options)
            return apply_block(layer, x, cond, examples, remat=self.remat, train=train)

        def decode(x: Images, features: int, name: str, **options: str | bool) -> Maps:
            layer = block(features, encoder=False, name=name, **options)
            return apply_block(layer, x, cond, examples, remat=self.remat, train=train)

        # A channel of ones takes the place of biases.
        x = jnp.concatenate([x, jnp.ones_like(x[..., :1])], axis=-1)
        x = MPConv(levels[0], 3, dtype, name="stem")(x)
        kept = [x]
        for level, features in enumerate(levels):
            if level:
                x = encode(x, levels[level - 1], f"down_{level}_shrink", resample="down")
                kept.append(x)
            for index in range(self.blocks):
                attend = x.shape[1] in sides
                x = encode(x, features, f"down_{level}_{index}", attend=attend)
                kept.append(x)

        x = decode(x, levels[-1], "middle_0", attend=True)
        x = decode(x, levels[-1], "middle_1")
        for level, features in reversed(list(enumerate(levels))):
            if level < len(levels) - 1:
                x = decode(x, levels[level + 1], f"up_{level}_grow", resample="up")
            for index in range(self.blocks + 1):
                x = mp_concatenate(x, kept.pop(), self.concat_balance)
                attend = x.shape[1] in sides
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
    """A residual branch and perhaps self-attention, in the order of encoder or decoder.

    balances: t of residual branch and attention. resample: "none", "down" or "up", at the start.
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
        parts = (normalized(part, (-1,)).astype(self.dtype) for part in parts)
        h = attention(*parts, 1 / np.sqrt(self.head_channels))
        h = h.swapaxes(1, 2).reshape(batch, height, width, channels)
        return conv(channels, 1, name="out")(h)
