"""The time embedding and the windows of gmongaras/Diffusion_models_from_scratch."""

import math
from collections.abc import Callable
from functools import cache
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from diffusion_jax.diffusion.types import CNoise, Images

LARGEST_DIM = 2048


def original_sinusoidal(
    c_noise: CNoise,
    dim: int,
    kind: str,
    rows: Int[Array, "batch"] | None = None,
) -> Float[Array, "batch dim"]:
    """Returns sin or cos of t *times* 10000^(2i/dim).

    Args:
        kind: "published", the embedding of the published models, has sin in the even rows of the
            batch and cos in the odd ones. "head", the program since May 2024, has sin in the even
            columns and cos in the odd ones. "sin" has sin everywhere, as "published" has for a
            batch of one, so that an example does not depend on its position in the batch.
        rows: position of each example in the batch, for "published"; the default is 0, 1, ...

    Raises:
        ValueError: another kind.
    """
    angles = c_noise.astype(jnp.float32)[:, None] * original_frequencies(dim)[None, :]
    if kind == "sin":
        return jnp.sin(angles)
    if kind == "published":
        even = (jnp.arange(len(c_noise)) if rows is None else rows)[:, None] % 2 == 0
    elif kind == "head":
        even = np.arange(dim)[None, :] % 2 == 0
    else:
        raise ValueError(f"Unknown kind {kind!r}; known kinds: published, head, sin")
    return jnp.where(even, jnp.sin(angles), jnp.cos(angles))


@cache
def original_frequencies(dim: int) -> Float[np.ndarray, "dim"]:
    """Returns 10000^(2i/dim) with the float32 bits of PyTorch's `pow`. Do not modify the result.

    With t = 1000 an error in the last bit changes a feature completely. PyTorch's powers are
    correctly rounded except for a unit in the last place of some entries, which
    `original_frequencies.npz` lists for every dim up to 2048 (PyTorch 2.15, CPU with AVX-512).

    Raises:
        ValueError: dim is above 2048.
    """
    if dim > LARGEST_DIM:
        raise ValueError(
            f"time_dim={dim}: PyTorch's frequencies are known up to {LARGEST_DIM}; take "
            "less, or time_embedding=standard"
        )
    exponents = np.arange(0, 2 * dim, 2, dtype=np.float32) / np.float32(dim)
    rounded = np.power(10000.0, exponents.astype(np.float64)).astype(np.float32)
    with np.load(Path(__file__).with_name("original_frequencies.npz")) as table:
        here = table["dim"] == dim
        bits = rounded.view(np.int32)
        bits[table["index"][here]] += table["units"][here]
    return rounded


def scrambled_attention(
    query: Images, key: Images, value: Images, side: int, attention: Callable
) -> Images:
    """Computes the original's `atn`, whose reshapes confuse channels and windows.

    A group holds 1/P of the channels of all P patches, and the result is not rearranged from
    patches to the image. Logits are divided by the square root of the side.

    Args:
        side: side of a window, in pixels.
        attention: (query, key, value, scale) -> values, on (batch, groups, pixels, channels).
    """
    batch, height, width, channels = query.shape
    if side > width:
        groups, patches = 1, lambda image: image.reshape(batch, channels, -1)
    else:
        groups = (height // side) * (width // side)

        def patches(image: Float[Array, "batch channels height width"]) -> Array:
            grid = image.reshape(batch, channels, height // side, side, width // side, side)
            return grid.transpose(0, 1, 2, 4, 3, 5)

    def to_groups(image: Images) -> Float[Array, "batch groups pixels channels_of_group"]:
        image = image.transpose(0, 3, 1, 2)
        return patches(image).reshape(batch, groups, channels, -1).swapaxes(2, 3)

    scale = 1 / math.sqrt(side)
    h = attention(to_groups(query), to_groups(key), to_groups(value), scale).swapaxes(2, 3)
    return h.reshape(batch, channels, height, width).transpose(0, 2, 3, 1)
