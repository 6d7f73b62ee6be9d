"""The plain U-Net of convolutions of the OASIS system in the PatternFlow collection.

U-Net (arXiv:1505.04597) with the timestep added between the two convolutions of each level.
"""

from functools import partial
from typing import Annotated, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, DTypeLike, Float

from diffusion_jax.diffusion.types import Features, Images, NetworkOutput
from diffusion_jax.models.field_types import Bounds, Count, Dtype, Sides, dtype_of
from diffusion_jax.models.layers.convolutions import TORCH_KERNEL, conv, double
from diffusion_jax.models.layers.embeddings import LabelEmbedding, sinusoidal
from diffusion_jax.models.layers.normalization import GroupNorm
from diffusion_jax.models.layers.precompute import OF_CONDITION, OF_LEVEL, precompute
from diffusion_jax.models.layers.remat import apply_block, check_sides
from diffusion_jax.models.network import Network


class PlainUNet(Network):
    """A U-Net with max pooling on the way down and transposed convolutions on the way up.

    Level i = 0 .. levels has width * 2^i channels. Sides must be divisible by 2^levels.

    Args:
        width: channels of the first level.
        levels: number of halvings.
        time_dim: width of the timestep embedding, an even number.
        norm: "group" is group norm with at most 32 groups of at least 4 channels, since smaller
            groups lose the brightness of an image. "affine" scales and shifts each channel, as the
            batch norm of a trained imported model does.
        remat: see `apply_block`.
        dtype: of convolutions, see `dtype_of`. Parameters, norms, embeddings and the
            output are float32.
    """

    width: Count = 64
    levels: Count = 4
    time_dim: Annotated[int, Bounds(4)] = 32
    norm: Literal["group", "affine"] = "group"
    remat: Sides = ()
    dtype: Dtype = "auto"

    def check(self, resolution: int) -> None:
        if resolution % 2**self.levels:
            raise ValueError(
                f"data.resolution={resolution} is not divisible by {2**self.levels}, which "
                f"model.levels={self.levels} needs"
            )
        check_sides("remat", self.remat, [resolution >> i for i in range(self.levels + 1)])
        if self.time_dim % 2:
            raise ValueError(f"model.time_dim={self.time_dim} must be even")

    def forward(self, x, c_noise, condition, train, examples):
        dtype = jnp.dtype(dtype_of(self.dtype))
        layer = nn.Dense(self.time_dim, kernel_init=TORCH_KERNEL, name="time")

        def time() -> Float[Array, "batch time_dim"]:
            return jax.nn.relu(layer(sinusoidal(c_noise, self.time_dim, endpoint=True)))

        cond = precompute(self, OF_LEVEL, "time", time)
        if condition is not None:
            table = LabelEmbedding(self.num_classes, self.time_dim, name="label_embedding")
            cond += precompute(self, OF_CONDITION, "label", lambda: table(condition))

        block = partial(TwoConvs, norm=self.norm, dtype=dtype)

        def level(x: Images, features: int, name: str) -> Features:
            options = {"remat": self.remat, "train": train, "takes_train": False}
            return apply_block(block(features, name=name), x, cond, **options)

        widths = [self.width * 2**i for i in range(self.levels + 1)]
        skips = []
        for i, features in enumerate(widths[:-1]):
            x = level(x, features, f"down_{i}")
            skips.append(x)
            x = nn.max_pool(x, (2, 2), (2, 2))
        x = level(x, widths[-1], "bottom")
        for i, features in reversed(list(enumerate(widths[:-1]))):
            x = double(features, 2, f"up_{i}_double", dtype)(x)
            x = jnp.concatenate([skips.pop(), x], axis=-1)
            x = level(x, features, f"up_{i}")
        return NetworkOutput(conv(self.channels, 1, "head", jnp.float32)(x))


class TwoConvs(nn.Module):
    """Conv, norm, ReLU, the added ReLU of a layer on the embedding, conv, norm, ReLU."""

    features: int
    norm: str
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Images, cond: Float[Array, "batch time_dim"]) -> Features:
        shift = nn.Dense(self.features, kernel_init=TORCH_KERNEL, name="embedding")(cond)
        x = conv(self.features, 3, "conv_0", self.dtype)(x)
        x = jax.nn.relu(self._norm("norm_0")(x))
        x = x + jax.nn.relu(shift)[:, None, None, :].astype(x.dtype)
        x = conv(self.features, 3, "conv_1", self.dtype)(x)
        return jax.nn.relu(self._norm("norm_1")(x))

    def _norm(self, name: str) -> nn.Module:
        if self.norm == "affine":
            return Affine(name=name)
        return GroupNorm(groups_of(self.features), name=name)


def groups_of(features: int) -> int:
    """Returns a number of groups: at most 32, each of at least 4 channels if possible."""
    fitting = (n for n in (32, 16, 8, 4, 2) if features % n == 0 and features >= 4 * n)
    return next(fitting, 1)


class Affine(nn.Module):
    """x * scale + bias for each channel, in float32, returned in the type of x."""

    @nn.compact
    def __call__(self, x: Images) -> Images:
        channels = (x.shape[-1],)
        scale = self.param("scale", nn.initializers.ones_init(), channels)
        bias = self.param("bias", nn.initializers.zeros_init(), channels)
        shape = (1, 1, 1, -1)
        scaled = x.astype(jnp.float32) * jnp.reshape(scale, shape) + jnp.reshape(bias, shape)
        return scaled.astype(x.dtype)
