"""DiT: a transformer on patches, conditioned by its layer norms.

Scalable Diffusion Models with Transformers (arXiv:2212.09748), the variant adaLN-Zero.
"""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, DTypeLike, Float

from diffusion_jax.diffusion.types import NetworkOutput
from diffusion_jax.models.field_types import Count, Dtype, dtype_of
from diffusion_jax.models.layers.attention import attention
from diffusion_jax.models.layers.convolutions import Conv, Dense
from diffusion_jax.models.layers.embeddings import LabelEmbedding, TimeMLP, sinusoidal
from diffusion_jax.models.layers.precompute import OF_CONDITION, OF_LEVEL, precompute
from diffusion_jax.models.network import Network

Tokens = Float[Array, "batch tokens width"]
KERNEL = nn.initializers.xavier_uniform()
ZERO = nn.initializers.zeros_init()


class DiT(Network):
    """A transformer of `depth` blocks on square patches.

    Args:
        patch_size: side of a patch, a divisor of the side of the images.
        width: of a token, divisible by num_heads and by 4.
        depth: number of blocks.
        num_heads: attention heads.
        learn_variance: True for a second output, v of Improved DDPM.
        dtype: of matrix products, see `dtype_of`. Parameters, norms, embeddings and the
            output are float32.
    """

    patch_size: Count = 2
    width: Count = 384
    depth: Count = 12
    num_heads: Count = 6
    learn_variance: bool = False
    dtype: Dtype = "auto"

    @property
    def learns_variance(self) -> bool:
        return self.learn_variance

    def check(self, resolution: int) -> None:
        if resolution % self.patch_size:
            raise ValueError(
                f"data.resolution={resolution} is not divisible by "
                f"model.patch_size={self.patch_size}"
            )
        if self.width % self.num_heads or self.width % 4:
            raise ValueError(
                f"model.width={self.width} is not divisible by model.num_heads={self.num_heads} "
                "and by 4"
            )

    def forward(self, x, c_noise, condition, train, examples):
        dtype = jnp.dtype(dtype_of(self.dtype))
        batch, height, width, _ = x.shape
        down, across = height // self.patch_size, width // self.patch_size
        mlp = TimeMLP(self.width, name="time_mlp")
        cond = precompute(self, OF_LEVEL, "time", lambda: mlp(sinusoidal(c_noise, self.width)))
        if condition is not None:
            table = LabelEmbedding(self.num_classes, self.width, name="label_embedding")
            cond += precompute(self, OF_CONDITION, "label", lambda: table(condition))
        cond = jax.nn.silu(cond)

        size = (self.patch_size, self.patch_size)
        stem = partial(Conv, padding="VALID", kernel_init=KERNEL, dtype=dtype, name="stem")
        x = stem(self.width, size, size)(x)
        x = x.reshape(batch, down * across, self.width).astype(jnp.float32)
        x = x + position_embedding(down, across, self.width)[None]
        for index in range(self.depth):
            x = DiTBlock(self.num_heads, dtype, name=f"block_{index}")(x, cond)

        outputs = 2 if self.learn_variance else 1
        shift, scale = modulation(cond, self.width, 2, "head_modulation")
        features = self.patch_size**2 * outputs * self.channels
        x = nn.Dense(features, kernel_init=ZERO, name="head")(normalized(x, shift, scale))
        x = x.reshape(batch, down, across, *size, outputs, self.channels)
        x = x.transpose(5, 0, 1, 3, 2, 4, 6).reshape(outputs, batch, height, width, self.channels)
        return NetworkOutput(x[0], x[1] if self.learn_variance else None)


class DiTBlock(nn.Module):
    """x + gate attention(norm(x)), then x + gate MLP(norm(x)), with gates initialized to 0."""

    num_heads: int
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Tokens, cond: Float[Array, "batch width"]) -> Tokens:
        batch, tokens, width = x.shape
        parts = modulation(cond, width, 6, "modulation")
        shift, scale, gate, mlp_shift, mlp_scale, mlp_gate = parts

        def dense(features: int, name: str) -> Dense:
            return Dense(features, kernel_init=KERNEL, dtype=self.dtype, name=name)

        qkv = dense(3 * width, "qkv")(normalized(x, shift, scale))
        qkv = qkv.reshape(batch, tokens, 3, self.num_heads, width // self.num_heads)
        query, key, value = qkv.transpose(2, 0, 3, 1, 4)
        h = attention(query, key, value, 1 / np.sqrt(width // self.num_heads))
        h = dense(width, "out")(h.swapaxes(1, 2).reshape(batch, tokens, width))
        x = x + gate * h.astype(jnp.float32)
        h = jax.nn.gelu(dense(4 * width, "expand")(normalized(x, mlp_shift, mlp_scale)))
        return x + mlp_gate * dense(width, "project")(h).astype(jnp.float32)


def modulation(
    cond: Float[Array, "batch width"], width: int, parts: int, name: str
) -> list[Float[Array, "batch 1 width"]]:
    """Computes shifts, scales and gates from the embedding; all are initialized to 0."""
    joined = nn.Dense(parts * width, kernel_init=ZERO, name=name)(cond)
    return jnp.split(joined[:, None, :], parts, axis=-1)


def normalized(
    x: Tokens, shift: Float[Array, "batch 1 width"], scale: Float[Array, "batch 1 width"]
) -> Tokens:
    """Applies layer norm without parameters, in float32, then scales and shifts."""
    norm = nn.LayerNorm(epsilon=1e-6, use_bias=False, use_scale=False, dtype=jnp.float32)
    return norm(x) * (1 + scale) + shift


def position_embedding(down: int, across: int, width: int) -> Float[np.ndarray, "tokens width"]:
    """Returns sines and cosines of the row in one half of the columns, of the column in the other.

    It is float32 and constant.
    """
    frequencies = 10000.0 ** -(np.arange(width // 4) / (width // 4))
    rows, columns = np.divmod(np.arange(down * across), across)
    angles = [place[:, None] * frequencies for place in (rows, columns)]
    return np.concatenate([f(a) for a in angles for f in (np.sin, np.cos)], 1).astype(np.float32)
