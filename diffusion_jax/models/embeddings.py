"""What tells the network the timestep and the class."""

from functools import cache
from pathlib import Path

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from diffusion_jax.diffusion.types import Labels
from diffusion_jax.models.layers import TORCH_KERNEL, gelu

LARGEST_REFERENCE_DIM = 2048
TIME_EMBEDDINGS = ("auto", "standard", "head", "published", "sin")


def time_embedding_kind(time_embedding: str, behaviour: str) -> str:
    """One of TIME_EMBEDDINGS, with "auto" resolved."""
    if time_embedding != "auto":
        return time_embedding
    return "head" if behaviour == "reference" else "standard"


def sinusoidal(timesteps: Int[Array, "batch"], dim: int) -> Float[Array, "batch dim"]:
    """sin(t w_i) in the first half of the columns, cos(t w_i) in the second; w_i = 10000^(-i/half).

    Attention Is All You Need (arXiv:1706.03762), section 3.5, in the column order of DDPM.
    """
    frequencies = np.exp(-np.log(10000) * np.arange(dim // 2) / (dim // 2)).astype(np.float32)
    angles = timesteps.astype(jnp.float32)[:, None] * frequencies[None, :]
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)


def reference_sinusoidal(
    timesteps: Int[Array, "batch"],
    dim: int,
    kind: str,
    rows: Int[Array, "batch"] | None = None,
) -> Float[Array, "batch dim"]:
    """As gmongaras/Diffusion_models_from_scratch: sin or cos of t *times* 10000^(2i/dim).

    kind: "published", as its published models were trained: sin in the even rows of the batch, cos
    in the odd ones. "head", as it computes since May 2024: sin in the even columns, cos in the odd
    ones. "sin": sin everywhere, which is "published" for a batch of one; what a model trained as
    "published" says then does not depend on its place in the batch.
    rows: each example's place in the batch, for "published"; None: as they come.
    Raises ValueError for another kind.
    """
    angles = timesteps.astype(jnp.float32)[:, None] * reference_frequencies(dim)[None, :]
    if kind == "sin":
        return jnp.sin(angles)
    if kind == "published":
        even = (jnp.arange(len(timesteps)) if rows is None else rows)[:, None] % 2 == 0
    elif kind == "head":
        even = np.arange(dim)[None, :] % 2 == 0
    else:
        raise ValueError(f"Unknown kind {kind!r}; known kinds: published, head, sin")
    return jnp.where(even, jnp.sin(angles), jnp.cos(angles))


@cache
def reference_frequencies(dim: int) -> Float[np.ndarray, "dim"]:
    """10000^(2i/dim) with the very float32 bits of PyTorch's `pow`.

    With t = 1000 an error in the last bit turns a feature round, so the bits matter. They are the
    correctly rounded powers, but for a unit in the last place here and there: for every dim up to
    2048 those places are listed in `original_frequencies.npz` (PyTorch 2.15, CPU with AVX-512).
    Treat the result as read-only. Raises ValueError for a larger dim.
    """
    if dim > LARGEST_REFERENCE_DIM:
        raise ValueError(
            f"time_dim={dim}: PyTorch's frequencies are known up to {LARGEST_REFERENCE_DIM}; take "
            "less, or time_embedding=standard"
        )
    exponents = np.arange(0, 2 * dim, 2, dtype=np.float32) / np.float32(dim)
    rounded = np.power(10000.0, exponents.astype(np.float64)).astype(np.float32)
    with np.load(Path(__file__).with_name("original_frequencies.npz")) as table:
        here = table["dim"] == dim
        bits = rounded.view(np.int32)
        bits[table["index"][here]] += table["units"][here]
    return rounded


class TimeMLP(nn.Module):
    """Linear, GELU, Linear on the timestep embedding, all of width `dim`, in float32."""

    dim: int

    @nn.compact
    def __call__(self, embedding: Float[Array, "batch dim"]) -> Float[Array, "batch dim"]:
        hidden = nn.Dense(self.dim, kernel_init=TORCH_KERNEL, name="hidden")(embedding)
        return nn.Dense(self.dim, kernel_init=TORCH_KERNEL, name="out")(gelu(hidden))


class LabelEmbedding(nn.Module):
    """One row for each class; the null label, num_classes, is the zero vector and has no row."""

    num_classes: int
    dim: int

    @nn.compact
    def __call__(self, labels: Labels) -> Float[Array, "batch dim"]:
        table = self.param("table", nn.initializers.normal(1.0), (self.num_classes, self.dim))
        null = labels == self.num_classes
        # A NumPy array could not be indexed while this is traced.
        rows = jnp.asarray(table)[jnp.where(null, 0, labels)]
        return jnp.where(null[:, None], 0.0, rows)
