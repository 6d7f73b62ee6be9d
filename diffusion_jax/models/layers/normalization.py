"""GroupNorm fused with scale, shift and activation, in few passes over the activations.

    y = activation(gain (x - mean) / sqrt(variance + epsilon) + bias)

The forward pass reads x once for the statistics and once for y. The backward pass writes the
gradient of the activation once, in the type of x, and reads it with x once for two sums and once
for dx. All arithmetic is in float32.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from diffusion_jax.models.layers.parameters import FastLookup

PerChannel = Float[Array, "batch channels"]
Steps = tuple[tuple[Array | None, Array | None], ...]  # (scale, shift), of (batch or 1, channels)
Activation = Callable[[Array], Array]


def identity(x: Array) -> Array:
    return x


class GroupNorm(nn.Module):
    """GroupNorm (arXiv:1803.08494), computed in float32, returned in the type of its input.

    Maps x (batch, ..., channels) to activation(norm(x) * scale + shift), where scale and shift are
    (batch, channels) and the activation is elementwise.
    """

    groups: int
    epsilon: float = 1e-5
    activation: Activation = identity

    @nn.compact
    def __call__(
        self, x: Array, scale: PerChannel | None = None, shift: PerChannel | None = None
    ) -> Array:
        steps = Affine(x.shape[-1], name="norm")(), (scale, shift)
        flat = x.reshape(x.shape[0], -1, x.shape[-1])
        y = _traced_once(self.groups, self.epsilon, self.activation, flat, steps)
        return y.reshape(x.shape)


class Affine(FastLookup, nn.Module):
    """The learned gain and bias of each channel."""

    channels: int

    @nn.compact
    def __call__(self) -> tuple[Float[Array, "1 channels"], Float[Array, "1 channels"]]:
        gain = self.param("scale", nn.initializers.ones_init(), (self.channels,))
        bias = self.param("bias", nn.initializers.zeros_init(), (self.channels,))
        return jnp.asarray(gain)[None], jnp.asarray(bias)[None]


@partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _normalized(
    groups: int,
    epsilon: float,
    activation: Activation,
    x: Float[Array, "batch places channels"],
    steps: Steps,
) -> Float[Array, "batch places channels"]:
    return _forward(groups, epsilon, activation, x, steps)[0]


def _forward(
    groups: int, epsilon: float, activation: Activation, x: Array, steps: Steps
) -> tuple[Array, tuple[Any, ...]]:
    mean, variance = _statistics(x, groups)
    mean, rate = jax.lax.optimization_barrier((mean, jax.lax.rsqrt(variance + epsilon)))
    y = activation(_affine(_standard(x, mean, rate), steps))
    return y.astype(x.dtype), (x, steps, mean, rate)


def _backward(
    groups: int, epsilon: float, activation: Activation, kept: tuple[Any, ...], dy: Array
) -> tuple[Array, Steps]:
    x, steps, mean, rate = kept
    standard = _standard(x, mean, rate)
    _, pull = jax.vjp(activation, _affine(standard, steps))
    (du,) = pull(dy.astype(jnp.float32))
    # The barrier makes XLA write du to memory in the type of x; otherwise it would be float32.
    du = jax.lax.optimization_barrier(du.astype(x.dtype)).astype(jnp.float32)
    # Without the barrier, XLA would compute the sum over the batch in a separate pass.
    dbias, product = jax.lax.optimization_barrier(_sums(du, x.astype(jnp.float32) - mean[:, None]))
    dgain = product * rate
    (gain, _), pull = jax.vjp(lambda steps: _together(steps, mean.shape), steps)
    places = x.shape[1]
    mean_slope = _group_means(gain * dbias, groups) / places
    mean_product = _group_means(gain * dgain, groups) / places
    ds = du * gain[:, None] - mean_slope[:, None] - standard * mean_product[:, None]
    return (ds * rate[:, None]).astype(x.dtype), *pull((dgain, dbias))


def _affine(x: Array, steps: Steps) -> Array:
    """Applies x * scale + shift for each step."""
    for scale, shift in steps:
        x = x if scale is None else x * scale.astype(jnp.float32)[:, None]
        x = x if shift is None else x + shift.astype(jnp.float32)[:, None]
    return x


def _together(steps: Steps, shape: tuple[int, int]) -> tuple[PerChannel, PerChannel]:
    """Returns the gain and the bias of all steps combined."""
    bias = _affine(jnp.zeros(shape)[:, None], steps)
    gain = _affine(jnp.ones(shape)[:, None], tuple((scale, None) for scale, _ in steps))
    return gain[:, 0], bias[:, 0]


def _sums(du: Array, distance: Array) -> tuple[PerChannel, PerChannel]:
    """Returns the sums over positions of du and of du * distance, in one pass."""
    # XLA makes two passes of two sums on a GPU, and a slow pass of a double sum on a CPU.
    return jax.lax.platform_dependent(du, distance, cpu=_two_sums, default=_double_sum)


def _two_sums(du: Array, distance: Array) -> tuple[PerChannel, PerChannel]:
    return jnp.sum(du, axis=1), jnp.sum(du * distance, axis=1)


def _double_sum(du: Array, distance: Array) -> tuple[PerChannel, PerChannel]:
    return jax.lax.reduce((du, du * distance), (0.0, 0.0), partial(jax.tree.map, jnp.add), (1,))


def _standard(x: Array, mean: PerChannel, rate: PerChannel) -> Array:
    return (x.astype(jnp.float32) - mean[:, None]) * rate[:, None]


def _statistics(x: Array, groups: int) -> tuple[PerChannel, PerChannel]:
    """Computes mean and variance of each channel's group in one pass.

    Sums of squares of x would lose digits if the mean is large. The sums are of the distance to one
    value of the channel, which is at most sqrt(places) deviations from its mean. Channels are then
    combined by the parallel algorithm of Chan, Golub and LeVeque (1979).
    """
    places = x.shape[1]
    anchor = x[:, :1].astype(jnp.float32)
    distance = x.astype(jnp.float32) - anchor
    total, squares = jnp.sum(distance, axis=1), jnp.sum(distance**2, axis=1)
    within = squares / places - (total / places) ** 2
    means = anchor[:, 0] + total / places
    mean = _group_means(means, groups)
    return mean, _group_means(within + (means - mean) ** 2, groups)


def _group_means(x: PerChannel, groups: int) -> PerChannel:
    """Returns the mean over the channels of each group, repeated for each channel."""
    batch, channels = x.shape
    means = jnp.mean(x.reshape(batch, groups, -1), axis=-1)
    return jnp.repeat(means, channels // groups, axis=-1)


_normalized.defvjp(_forward, _backward)
# Traced once for each shape, and inlined at every call.
_traced_once = jax.jit(_normalized, static_argnums=(0, 1, 2), inline=True)
