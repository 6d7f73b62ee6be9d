"""Embeddings of the timestep and the class."""

from typing import Literal

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from diffusion_jax.diffusion.types import CNoise, Labels
from diffusion_jax.models.layers.convolutions import TORCH_KERNEL, gelu

TimeEmbedding = Literal["auto", "standard", "head", "published", "sin"]


def time_embedding_kind(time_embedding: TimeEmbedding, original_quirks: bool) -> str:
    """Resolves "auto": "head" with original_quirks, "standard" otherwise."""
    if time_embedding != "auto":
        return time_embedding
    return "head" if original_quirks else "standard"


def sinusoidal(
    c_noise: CNoise, dim: int, *, cosine_first: bool = False, endpoint: bool = False
) -> Float[Array, "batch dim"]:
    """Returns sin(t w_i) in the first half of the columns, cos(t w_i) in the second.

    w_i = 10000^(-i/half).

    Attention Is All You Need (arXiv:1706.03762), section 3.5, in the column order of DDPM.

    Args:
        cosine_first: True for the column order of Improved DDPM's program.
        endpoint: True for w_i from 1 to 1/10000, 10000^(-i/(half - 1)), as in DDPM's program.
    """
    half = dim // 2
    last = half - 1 if endpoint else half
    frequencies = np.exp(-np.log(10000) * np.arange(half) / last).astype(np.float32)
    angles = c_noise.astype(jnp.float32)[:, None] * frequencies[None, :]
    halves = [jnp.sin(angles), jnp.cos(angles)]
    return jnp.concatenate(halves[::-1] if cosine_first else halves, axis=-1)


class TimeMLP(nn.Module):
    """Linear, GELU, Linear on the timestep embedding, all of width `dim`, in float32."""

    dim: int

    @nn.compact
    def __call__(self, embedding: Float[Array, "batch dim"]) -> Float[Array, "batch dim"]:
        hidden = nn.Dense(self.dim, kernel_init=TORCH_KERNEL, name="hidden")(embedding)
        return nn.Dense(self.dim, kernel_init=TORCH_KERNEL, name="out")(gelu(hidden))


class LabelEmbedding(nn.Module):
    """A table with a row for each class; the null label, num_classes, is the zero vector.

    learned_null: True if the null label has a row, too.
    """

    num_classes: int
    dim: int
    learned_null: bool = False

    @nn.compact
    def __call__(self, labels: Labels) -> Float[Array, "batch dim"]:
        rows = self.num_classes + self.learned_null
        table = self.param("table", nn.initializers.normal(1.0), (rows, self.dim))
        # A NumPy array could not be indexed while this is traced.
        table = jnp.asarray(table)
        if self.learned_null:
            return table[labels]
        null = labels == self.num_classes
        rows = table[jnp.where(null, 0, labels)]
        return jnp.where(null[:, None], 0.0, rows)
