"""DDPM++ and NCSN++, the U-Nets of EDM (arXiv:2206.00364) for images of 32x32 and 64x64 pixels.

Score-Based Generative Modeling through SDEs (arXiv:2011.13456), appendix H; EDM, table 1 and
appendix F.
"""

from collections.abc import Mapping
from functools import partial
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from diffusion_jax.diffusion.types import CNoise, Condition, Images, NetworkOutput
from diffusion_jax.models.layers.adm_encoder import Maps
from diffusion_jax.models.layers.convolutions import Conv
from diffusion_jax.models.layers.embeddings import sinusoidal
from diffusion_jax.models.layers.precompute import OF_CONDITION, OF_LEVEL, precompute
from diffusion_jax.models.layers.remat import apply_block, check_sides
from diffusion_jax.models.layers.resolution_levels import (
    attending,
    channels_by_side,
    numbers,
    widths,
)
from diffusion_jax.models.layers.song import (
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
from diffusion_jax.models.network import Network

EMBEDDINGS = ("positional", "fourier")
ENCODERS = ("standard", "residual")


class SongUNet(Network):
    """(x, c_noise, labels) -> NetworkOutput.

    DDPM++ by default. NCSN++ has embedding="fourier", noise_multiple=2, encoder="residual" (the
    image, made smaller, is added at each level) and taps="1,3,3,1".

    multipliers, blocks, attention: as in `ADM`; the stem has width channels. embedding: of the
    c_noise, with noise_multiple * width numbers. taps: of the filter that halves and doubles.
    augment_dim: numbers that tell how an image was augmented, for a condition {"label": labels or
    None, "augment": (batch, augment_dim)}; other conditions mean images as they are. remat: see
    `apply_block`. dtype: "float32" or "bfloat16", for convolutions and matrix products.
    """

    channels: int
    num_classes: int
    width: int = 128
    multipliers: str = "2,2,2"
    blocks: int = 4
    attention: str = "16"
    embedding: str = "positional"
    noise_multiple: int = 1
    encoder: str = "standard"
    taps: str = "1,1"
    augment_dim: int = 0
    dropout: float = 0.0
    remat: str = ""
    dtype: str = "float32"

    FIELDS: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "at_least_1": ("channels", "width", "blocks", "noise_multiple"),
        "at_least_0": ("num_classes", "augment_dim"),
        "in_0_to_1": ("dropout",),
        "dtype": ("dtype",),
    }

    def widths(self) -> list[int]:
        """The channels of each level."""
        return widths(self)

    def check(self, resolution: int) -> None:
        check_sides(self.remat, list(channels_by_side(self, resolution)))
        for field, known in (("embedding", EMBEDDINGS), ("encoder", ENCODERS)):
            if getattr(self, field) not in known:
                raise ValueError(
                    f"model.{field}={getattr(self, field)} must be one of {', '.join(known)}"
                )
        if len(numbers("taps", self.taps)) % 2:
            raise ValueError(f"model.taps={self.taps} must be an even number of numbers")
        if self.width % 4 or any(
            width % min(32, width // 4) for width in {self.width, *self.widths()}
        ):
            raise ValueError(
                f"model.width={self.width} makes levels without groups of at least 4 channels; "
                "choose a multiple of 32"
            )

    def check_condition(self, condition: Condition) -> None:
        label = condition["label"] if isinstance(condition, dict) else condition
        super().check_condition(label)

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
        taps = tuple(numbers("taps", self.taps))
        cond = self._embedding(c_noise, condition)
        block = partial(SongBlock, dropout=self.dropout, taps=taps, dtype=dtype)

        def apply(x: Images, features: int, name: str, **options: str | bool) -> Maps:
            layer = block(features, name=name, **options)
            return apply_block(layer, x, cond, examples, remat=self.remat, train=train)

        image = x
        x = conv(self.width, 3, "stem", dtype)(x)
        kept = [x]
        for level, features in enumerate(levels):
            if level:
                x = apply(x, x.shape[-1], f"down_{level}_shrink", resample="down")
                if self.encoder == "residual":
                    wide = partial(Conv, padding=2, use_bias=False, kernel_init=XAVIER, dtype=dtype)
                    small = wide(x.shape[-1], (3, 3), name=f"down_{level}_image")(image)
                    small = filtered(small, taps, "down", padding=0)
                    zeros = nn.initializers.zeros_init()
                    bias = self.param(f"down_{level}_image_bias", zeros, x.shape[-1:])
                    small = small + jnp.asarray(bias, small.dtype).reshape(1, 1, 1, -1)
                    x = image = (x + small) * jnp.asarray(HALF, x.dtype)
                kept.append(x)
            for index in range(self.blocks):
                attend = x.shape[1] in sides
                x = apply(x, features, f"down_{level}_{index}", attend=attend)
                kept.append(x)

        x = apply(x, levels[-1], "middle_0", attend=True)
        x = apply(x, levels[-1], "middle_1")
        for level, features in reversed(list(enumerate(levels))):
            if level < len(levels) - 1:
                x = apply(x, x.shape[-1], f"up_{level}_grow", resample="up")
            for index in range(self.blocks + 1):
                x = jnp.concatenate([x, kept.pop()], axis=-1)
                attend = index == self.blocks and x.shape[1] in sides
                x = apply(x, features, f"up_{level}_{index}", attend=attend)

        x = jax.nn.silu(norm(name="head_norm")(x.astype(jnp.float32)))
        return NetworkOutput(conv(self.channels, 3, "head", jnp.float32, ALMOST_ZERO)(x))

    def _embedding(self, c_noise: CNoise, condition: Condition) -> Float[Array, "batch embedding"]:
        dim = self.noise_multiple * self.width

        def noise() -> Float[Array, "batch noise"]:
            if self.embedding == "fourier":
                return Fourier(dim, name="noise")(c_noise)
            return sinusoidal(c_noise, dim, to_the_end=True)

        labels, told = condition, None
        if isinstance(condition, dict):
            labels, told = condition["label"], condition["augment"]
        cond = precompute(self, OF_LEVEL, "noise", noise)
        if labels is not None:
            table = OneHot(self.num_classes, dim, name="label")
            cond += precompute(self, OF_CONDITION, "label", lambda: table(labels))
        if self.augment_dim:
            kernel = self.param("augment", XAVIER, (self.augment_dim, dim))
            if told is not None:
                cond += told @ kernel
        for index in (0, 1):
            layer = nn.Dense(4 * self.width, kernel_init=XAVIER, name=f"noise_{index}")
            cond = jax.nn.silu(layer(cond))
        return cond
