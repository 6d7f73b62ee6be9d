"""Magnitude-preserving layers, which keep a standard deviation of 1.

Analyzing and Improving the Training Dynamics of Diffusion Models (arXiv:2312.02696), "EDM2".
Equation numbers refer to its appendix B.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, DTypeLike, Float

from diffusion_jax.diffusion.types import CNoise, Features, Images, Labels, Leaf
from diffusion_jax.models.layers.parameters import FastLookup
from diffusion_jax.models.layers.precompute import OF_PARAMS, precompute

NORMAL = nn.initializers.normal(1.0)
EPSILON = 1e-4


def normalized(x: Float[Array, "*shape"], axes: tuple[int, ...]) -> Float[Array, "*shape"]:
    """Divides x by epsilon + its root mean square over the axes, in float32. Eq. 47, 66."""
    square = jnp.mean(jnp.square(x.astype(jnp.float32)), axis=axes, keepdims=True)
    return x / (EPSILON + jnp.sqrt(square)).astype(x.dtype)


def normalized_kernel(kernel: Float[Array, "..."]) -> Float[Array, "..."]:
    """Scales the kernel to a mean square of 1 for each output, the last axis."""
    return normalized(kernel, tuple(range(kernel.ndim - 1)))


def mp_silu(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Returns SiLU divided by its root mean square for normal inputs. Eq. 81."""
    return jax.nn.silu(x) / 0.596


def mp_sum(
    a: Float[Array, "*#shape"], b: Float[Array, "*#shape"], t: float
) -> Float[Array, "*shape"]:
    """Returns ((1 - t) a + t b) / sqrt((1 - t)^2 + t^2). Eq. 88."""
    return ((1 - t) * a + t * b) / np.sqrt((1 - t) ** 2 + t**2)


def mp_concatenate(a: Features, b: Images, t: float) -> Float[Array, "batch height width _"]:
    """Concatenates a and b with the weights 1 - t and t on their magnitudes. Eq. 103."""
    first, second = a.shape[-1], b.shape[-1]
    whole = np.sqrt((first + second) / ((1 - t) ** 2 + t**2))
    parts = [a * (whole * (1 - t) / np.sqrt(first)), b * (whole * t / np.sqrt(second))]
    return jnp.concatenate(parts, axis=-1)


class MPConv(FastLookup, nn.Module):
    """A convolution without bias, whose normalized kernel is divided by sqrt(fan in). Eq. 47.

    size: side of the kernel; 0 for a dense layer.
    """

    features: int
    size: int
    dtype: DTypeLike

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch ... channels"], gain: Leaf = 1.0
    ) -> Float[Array, "batch ... features"]:
        window = (self.size, self.size) if self.size else ()
        raw = self.param("kernel", NORMAL, (*window, x.shape[-1], self.features))
        fan_in = np.prod(raw.shape[:-1])

        def scaled() -> Float[Array, "..."]:
            return (normalized_kernel(jnp.asarray(raw)) * (gain / np.sqrt(fan_in))).astype(
                self.dtype
            )

        kernel = precompute(self, OF_PARAMS, "kernel", scaled)
        x = x.astype(self.dtype)
        if not self.size:
            return jnp.matmul(x, kernel, preferred_element_type=jnp.float32)
        padding = ((self.size // 2, self.size // 2),) * 2
        layout = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(
            *(x, kernel, (1, 1), padding),
            dimension_numbers=layout,
            preferred_element_type=jnp.float32,
        )


class MPFourier(nn.Module):
    """sqrt(2) cos(f x + phi), with random f and phi that are not trained. Eq. 75."""

    features: int

    @nn.compact
    def __call__(self, x: CNoise) -> Float[Array, "batch features"]:
        def phase(key: Array, shape: tuple[int, ...]) -> Float[Array, "features"]:
            return 2 * np.pi * jax.random.uniform(key, shape)

        shape = (self.features,)
        frequencies = self.param("fixed_frequencies", nn.initializers.normal(2 * np.pi), shape)
        phases = self.param("fixed_phases", phase, shape)
        angles = x.astype(jnp.float32)[:, None] * frequencies[None, :] + phases[None, :]
        return np.sqrt(2).astype(np.float32) * jnp.cos(angles)


class MPLabel(nn.Module):
    """`MPConv` of one-hot labels times sqrt(num_classes), with zeros for the null label."""

    num_classes: int
    features: int

    @nn.compact
    def __call__(self, labels: Labels) -> Float[Array, "batch features"]:
        raw = self.param("kernel", NORMAL, (self.num_classes, self.features))
        table = precompute(self, OF_PARAMS, "kernel", lambda: normalized_kernel(jnp.asarray(raw)))
        null = labels == self.num_classes
        return jnp.where(null[:, None], 0.0, table[jnp.where(null, 0, labels)])
