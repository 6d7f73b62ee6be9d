"""InceptionV3 as released for TensorFlow on 2015-12-05, the network of FID.

Rethinking the Inception Architecture (Szegedy et al., arXiv:1512.00567), with 1,008 classes. It
differs from torchvision's network: its average pools exclude the padding, the last block has a max
pool, and the weights are others. Modules have the names of the PyTorch port of its weights.
"""

from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

PARAMETERS = 23_850_960  # includes the bias of the last layer, which no metric uses
POOL, SPATIAL, CLASSES = 2048, 2023, 1008


class Activations(NamedTuple):
    """Activations that metrics use.

    pool: averages of the last feature maps (pool_3), for FID, KID, precision and recall. spatial:
    the first 7 channels of mixed_6/conv, 17x17 each, for sFID. logits: without bias, for IS.
    """

    pool: Float[Array, "batch 2048"]
    spatial: Float[Array, "batch 2023"]
    logits: Float[Array, "batch 1008"]


class ConvNorm(nn.Module):
    """Convolution, batch normalization with stored statistics, and ReLU."""

    features: int
    kernel: tuple[int, int]
    strides: int = 1
    padding: str = "SAME"

    @nn.compact
    def __call__(self, x: Array) -> Array:
        x = nn.Conv(
            self.features,
            self.kernel,
            strides=self.strides,
            padding=self.padding,
            use_bias=False,
            precision=jax.lax.Precision.HIGHEST,  # otherwise GPUs keep 10 bits
            name="conv",
        )(x)
        ones, zeros = nn.initializers.ones, nn.initializers.zeros
        starts = {"scale": ones, "bias": zeros, "mean": zeros, "variance": ones}
        scale, bias, mean, variance = (
            self.param(name, start, (self.features,)).reshape(1, 1, 1, -1)
            for name, start in starts.items()
        )
        return nn.relu((x - mean) * (scale / jnp.sqrt(variance + 1e-3)) + bias)


def _average(x: Array) -> Array:
    return nn.avg_pool(x, (3, 3), strides=(1, 1), padding="SAME", count_include_pad=False)


_halve = partial(nn.max_pool, window_shape=(3, 3), strides=(2, 2))
ROW, COLUMN = (1, 7), (7, 1)


class BlockA(nn.Module):
    """35x35 block: 1x1, 5x5, two 3x3, and a pool."""

    pool_features: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        ones = ConvNorm(64, (1, 1), name="branch1x1")(x)
        fives = ConvNorm(48, (1, 1), name="branch5x5_1")(x)
        fives = ConvNorm(64, (5, 5), name="branch5x5_2")(fives)
        threes = ConvNorm(64, (1, 1), name="branch3x3dbl_1")(x)
        threes = ConvNorm(96, (3, 3), name="branch3x3dbl_2")(threes)
        threes = ConvNorm(96, (3, 3), name="branch3x3dbl_3")(threes)
        pooled = ConvNorm(self.pool_features, (1, 1), name="branch_pool")(_average(x))
        return jnp.concatenate([ones, fives, threes, pooled], axis=-1)


class BlockB(nn.Module):
    """Reduction from 35x35 to 17x17."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        valid = partial(ConvNorm, strides=2, padding="VALID")
        three = valid(384, (3, 3), name="branch3x3")(x)
        threes = ConvNorm(64, (1, 1), name="branch3x3dbl_1")(x)
        threes = ConvNorm(96, (3, 3), name="branch3x3dbl_2")(threes)
        threes = valid(96, (3, 3), name="branch3x3dbl_3")(threes)
        return jnp.concatenate([three, threes, _halve(x)], axis=-1)


class BlockC(nn.Module):
    """17x17 block: 1x1, one and two 7x7 as rows and columns, and a pool."""

    inner: int

    @nn.compact
    def __call__(self, x: Array) -> tuple[Array, Array]:
        """Returns (all branches, the first alone)."""
        ones = ConvNorm(192, (1, 1), name="branch1x1")(x)
        sevens = ConvNorm(self.inner, (1, 1), name="branch7x7_1")(x)
        sevens = ConvNorm(self.inner, ROW, name="branch7x7_2")(sevens)
        sevens = ConvNorm(192, COLUMN, name="branch7x7_3")(sevens)
        twice = ConvNorm(self.inner, (1, 1), name="branch7x7dbl_1")(x)
        twice = ConvNorm(self.inner, COLUMN, name="branch7x7dbl_2")(twice)
        twice = ConvNorm(self.inner, ROW, name="branch7x7dbl_3")(twice)
        twice = ConvNorm(self.inner, COLUMN, name="branch7x7dbl_4")(twice)
        twice = ConvNorm(192, ROW, name="branch7x7dbl_5")(twice)
        pooled = ConvNorm(192, (1, 1), name="branch_pool")(_average(x))
        return jnp.concatenate([ones, sevens, twice, pooled], axis=-1), ones


class BlockD(nn.Module):
    """Reduction from 17x17 to 8x8."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        valid = partial(ConvNorm, strides=2, padding="VALID")
        threes = ConvNorm(192, (1, 1), name="branch3x3_1")(x)
        threes = valid(320, (3, 3), name="branch3x3_2")(threes)
        sevens = ConvNorm(192, (1, 1), name="branch7x7x3_1")(x)
        sevens = ConvNorm(192, ROW, name="branch7x7x3_2")(sevens)
        sevens = ConvNorm(192, COLUMN, name="branch7x7x3_3")(sevens)
        sevens = valid(192, (3, 3), name="branch7x7x3_4")(sevens)
        return jnp.concatenate([threes, sevens, _halve(x)], axis=-1)


class BlockE(nn.Module):
    """8x8 block: 1x1, 3x3 as parallel row and column, the same after a 3x3, and a pool."""

    max_pool: bool

    @nn.compact
    def __call__(self, x: Array) -> Array:
        ones = ConvNorm(320, (1, 1), name="branch1x1")(x)
        three = ConvNorm(384, (1, 1), name="branch3x3_1")(x)
        row = ConvNorm(384, (1, 3), name="branch3x3_2a")(three)
        column = ConvNorm(384, (3, 1), name="branch3x3_2b")(three)
        twice = ConvNorm(448, (1, 1), name="branch3x3dbl_1")(x)
        twice = ConvNorm(384, (3, 3), name="branch3x3dbl_2")(twice)
        twice_row = ConvNorm(384, (1, 3), name="branch3x3dbl_3a")(twice)
        twice_column = ConvNorm(384, (3, 1), name="branch3x3dbl_3b")(twice)
        pooled = (
            nn.max_pool(x, (3, 3), strides=(1, 1), padding="SAME") if self.max_pool else _average(x)
        )
        pooled = ConvNorm(192, (1, 1), name="branch_pool")(pooled)
        branches = [ones, row, column, twice_row, twice_column, pooled]
        return jnp.concatenate(branches, axis=-1)


class InceptionV3(nn.Module):
    """InceptionV3, from images prepared by `evaluation.resize` to activations."""

    @nn.compact
    def __call__(self, images: Float[Array, "batch 299 299 3"]) -> Activations:
        valid = partial(ConvNorm, padding="VALID")
        x = valid(32, (3, 3), strides=2, name="Conv2d_1a_3x3")(images)
        x = valid(32, (3, 3), name="Conv2d_2a_3x3")(x)
        x = _halve(ConvNorm(64, (3, 3), name="Conv2d_2b_3x3")(x))
        x = valid(80, (1, 1), name="Conv2d_3b_1x1")(x)
        x = _halve(valid(192, (3, 3), name="Conv2d_4a_3x3")(x))
        for name, pool_features in (("Mixed_5b", 32), ("Mixed_5c", 64), ("Mixed_5d", 64)):
            x = BlockA(pool_features, name=name)(x)
        x = BlockB(name="Mixed_6a")(x)
        first = {}
        for name, inner in (("6b", 128), ("6c", 160), ("6d", 160), ("6e", 192)):
            x, first[name] = BlockC(inner, name=f"Mixed_{name}")(x)
        x = BlockD(name="Mixed_7a")(x)
        x = BlockE(max_pool=False, name="Mixed_7b")(x)
        x = BlockE(max_pool=True, name="Mixed_7c")(x)
        pool = x.mean((1, 2))
        kernel = self.param("fc", nn.initializers.lecun_normal(), (POOL, CLASSES))
        logits = jnp.dot(pool, kernel, precision=jax.lax.Precision.HIGHEST)
        # mixed_6/conv in TensorFlow.
        spatial = first["6d"][..., :7].reshape(len(pool), -1)
        return Activations(pool, spatial, logits)
