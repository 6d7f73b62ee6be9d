"""Random keys, derived and never stored.

seed -> purpose -> step -> example: a resumed run draws the same numbers as an uninterrupted one,
and an example has the same noise for any number of devices.
"""

import zlib

import jax
import numpy as np
from jaxtyping import Array, Int, Key

from diffusion_jax.diffusion.types import Keys


def derive(seed: int, purpose: str) -> Key[Array, ""]:
    """Returns the key of `seed` for one purpose, such as "init", "train" or "sample"."""
    check_seed(seed)
    return jax.random.fold_in(jax.random.key(seed), zlib.crc32(purpose.encode()))


def check_seed(seed: int) -> None:
    """Raises ValueError unless the seed is a whole number in [0, 2^32)."""
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or not 0 <= seed < 2**32:
        raise ValueError(f"seed={seed!r} must be a whole number in [0, 2^32)")


def per_example(key: Key[Array, ""], examples: Int[Array, "batch"]) -> Keys:
    """Returns a key for each example, from its index in the global batch (or among the samples)."""
    return jax.vmap(jax.random.fold_in, (None, 0))(key, examples)


def at_step(keys: Keys, step: Int[Array, ""] | int) -> Keys:
    """Returns the key of each example for one step of sampling."""
    return jax.vmap(jax.random.fold_in, (0, None))(keys, step)


def split(keys: Keys, number: int) -> list[Keys]:
    """Returns `number` independent keys for each key."""
    parts = jax.vmap(lambda key: jax.random.split(key, number))(keys)
    return [parts[:, i] for i in range(number)]


def normal(keys: Keys, shape: tuple[int, ...]) -> jax.Array:
    """Draws standard normal float32 noise of this shape for each key."""
    return jax.vmap(lambda key: jax.random.normal(key, shape))(keys)
