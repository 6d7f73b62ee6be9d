"""DDPM++ and NCSN++, the U-Nets of EDM (arXiv:2206.00364) for images of 32x32 and 64x64 pixels.

Score-Based Generative Modeling through SDEs (arXiv:2011.13456), appendix H; EDM, table 1 and
appendix F.
"""

from functools import partial
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from diffusion_jax.diffusion.types import CNoise, Condition, Images, NetworkOutput
from diffusion_jax.models.field_types import Count, CountOrZero, Sides, dtype_of
from diffusion_jax.models.layers.convolutions import Conv
from diffusion_jax.models.layers.embeddings import sinusoidal
from diffusion_jax.models.layers.precompute import OF_CONDITION, OF_LEVEL, precompute
from diffusion_jax.models.layers.remat import Maps, apply_block
from diffusion_jax.models.layers.song_blocks import (
    ALMOST_ZERO,
    HALF,
    XAVIER,
    Fourier,
    OneHot,
    SongBlock,
    conv,
    filtered,
    norm,
)
from diffusion_jax.models.multi_resolution import MultiResolutionNetwork


class SongUNet(MultiResolutionNetwork):
    """DDPM++, or NCSN++.

    NCSN++ has embedding="fourier", noise_multiple=2, encoder="residual" and taps=(1, 3, 3, 1).

    Args:
        width: channels after the stem.
        embedding: of c_noise.
        noise_multiple: the embedding of c_noise has noise_multiple * width numbers.
        encoder: "residual" adds the downsampled image at each level.
        taps: of the filter that halves and doubles the sides, of even length.
        augment_dim: length of the vector that describes the augmentation of an image, for the
            condition {"label": labels or None, "augment": (batch, augment_dim)}. Other conditions
            stand for images without augmentation.
    """

    multipliers: tuple[int | float, ...] = (2, 2, 2)
    blocks: Count = 4
    attention: Sides = (16,)
    embedding: Literal["positional", "fourier"] = "positional"
    noise_multiple: Count = 1
    encoder: Literal["standard", "residual"] = "standard"
    taps: tuple[int, ...] = (1, 1)
    augment_dim: CountOrZero = 0

    def check(self, resolution: int) -> None:
        widths = self.channels_by_side(resolution).values()
        if not self.taps or len(self.taps) % 2:
            raise ValueError(f"model.taps={self.taps} must have an even number of weights")
        if self.width % 4 or any(width % min(32, width // 4) for width in {self.width, *widths}):
            raise ValueError(
                f"model.width={self.width} makes levels without groups of at least 4 channels; "
                "choose a multiple of 32"
            )

    def check_condition(self, condition: Condition) -> None:
        label = condition["label"] if isinstance(condition, dict) else condition
        super().check_condition(label)

    def forward(self, x, c_noise, condition, train, examples):
        dtype, levels = jnp.dtype(dtype_of(self.dtype)), self.widths()
        cond = self._embedding(c_noise, condition)
        block = partial(SongBlock, dropout=self.dropout, taps=self.taps, dtype=dtype)

        def apply(x: Images, features: int, name: str, **options: Any) -> Maps:
            layer = block(features, name=name, **options)
            return apply_block(layer, x, cond, examples, remat=self.remat, train=train)

        image = x
        x = conv(self.width, 3, "stem", dtype)(x)
        skips = [x]
        for level, features in enumerate(levels):
            if level:
                x = apply(x, x.shape[-1], f"down_{level}_shrink", resample="down")
                if self.encoder == "residual":
                    wide = partial(Conv, padding=2, use_bias=False, kernel_init=XAVIER, dtype=dtype)
                    small = wide(x.shape[-1], (3, 3), name=f"down_{level}_image")(image)
                    small = filtered(small, self.taps, "down", padding=0)
                    zeros = nn.initializers.zeros_init()
                    bias = self.param(f"down_{level}_image_bias", zeros, x.shape[-1:])
                    small = small + jnp.asarray(bias, small.dtype).reshape(1, 1, 1, -1)
                    x = image = (x + small) * jnp.asarray(HALF, x.dtype)
                skips.append(x)
            for index in range(self.blocks):
                attend = x.shape[1] in self.attention
                x = apply(x, features, f"down_{level}_{index}", attend=attend)
                skips.append(x)

        x = apply(x, levels[-1], "middle_0", attend=True)
        x = apply(x, levels[-1], "middle_1")
        for level, features in reversed(list(enumerate(levels))):
            if level < len(levels) - 1:
                x = apply(x, x.shape[-1], f"up_{level}_grow", resample="up")
            for index in range(self.blocks + 1):
                x = jnp.concatenate([x, skips.pop()], axis=-1)
                attend = index == self.blocks and x.shape[1] in self.attention
                x = apply(x, features, f"up_{level}_{index}", attend=attend)

        x = jax.nn.silu(norm(name="head_norm")(x.astype(jnp.float32)))
        return NetworkOutput(conv(self.channels, 3, "head", jnp.float32, ALMOST_ZERO)(x))

    def _embedding(self, c_noise: CNoise, condition: Condition) -> Float[Array, "batch embedding"]:
        dim = self.noise_multiple * self.width

        def noise() -> Float[Array, "batch noise"]:
            if self.embedding == "fourier":
                return Fourier(dim, name="noise")(c_noise)
            return sinusoidal(c_noise, dim, endpoint=True)

        labels, augment = condition, None
        if isinstance(condition, dict):
            labels, augment = condition["label"], condition["augment"]
        cond = precompute(self, OF_LEVEL, "noise", noise)
        if labels is not None:
            table = OneHot(self.num_classes, dim, name="label")
            cond += precompute(self, OF_CONDITION, "label", lambda: table(labels))
        if self.augment_dim:
            kernel = self.param("augment", XAVIER, (self.augment_dim, dim))
            if augment is not None:
                cond += augment @ kernel
        for index in (0, 1):
            layer = nn.Dense(4 * self.width, kernel_init=XAVIER, name=f"noise_{index}")
            cond = jax.nn.silu(layer(cond))
        return cond
