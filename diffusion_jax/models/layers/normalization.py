"""GroupNorm with what follows it, in few passes over the activations.

    y = activation(gain (x - mean) / sqrt(variance + epsilon) + bias)

x is read once for its statistics and once for y. For the gradient, that of the activation is
written once, in the type of x, and read with x once for two sums and once for dx. All is computed
in float32.
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

    x: (batch, ..., channels). Of its result, scale and shift are applied channel by channel, then
    the activation, a function of single values: activation(norm(x) * scale + shift).
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
    # A compiler writes it to memory: behind the barrier in the type of x, without it in float32.
    du = jax.lax.optimization_barrier(du.astype(x.dtype)).astype(jnp.float32)
    # With a barrier, since a sum over the batch, too, would be a pass of its own.
    dbias, product = jax.lax.optimization_barrier(_sums(du, x.astype(jnp.float32) - mean[:, None]))
    dgain = product * rate
    (gain, _), pull = jax.vjp(lambda steps: _together(steps, mean.shape), steps)
    places = x.shape[1]
    mean_slope = _group_means(gain * dbias, groups) / places
    mean_product = _group_means(gain * dgain, groups) / places
    ds = du * gain[:, None] - mean_slope[:, None] - standard * mean_product[:, None]
    return (ds * rate[:, None]).astype(x.dtype), *pull((dgain, dbias))


def _affine(x: Array, steps: Steps) -> Array:
    """x * scale + shift, step by step."""
    for scale, shift in steps:
        x = x if scale is None else x * scale.astype(jnp.float32)[:, None]
        x = x if shift is None else x + shift.astype(jnp.float32)[:, None]
    return x


def _together(steps: Steps, shape: tuple[int, int]) -> tuple[PerChannel, PerChannel]:
    """The gain and the bias that all steps amount to."""
    bias = _affine(jnp.zeros(shape)[:, None], steps)
    gain = _affine(jnp.ones(shape)[:, None], tuple((scale, None) for scale, _ in steps))
    return gain[:, 0], bias[:, 0]


def _sums(du: Array, distance: Array) -> tuple[PerChannel, PerChannel]:
    """The sums over places of du and of du * distance, in one pass."""
    # A GPU's compiler makes two passes of two sums; a CPU's makes a slow one of a double sum.
    return jax.lax.platform_dependent(du, distance, cpu=_two_sums, default=_double_sum)


def _two_sums(du: Array, distance: Array) -> tuple[PerChannel, PerChannel]:
    return jnp.sum(du, axis=1), jnp.sum(du * distance, axis=1)


def _double_sum(du: Array, distance: Array) -> tuple[PerChannel, PerChannel]:
    return jax.lax.reduce((du, du * distance), (0.0, 0.0), partial(jax.tree.map, jnp.add), (1,))


def _standard(x: Array, mean: PerChannel, rate: PerChannel) -> Array:
    return (x.astype(jnp.float32) - mean[:, None]) * rate[:, None]


def _statistics(x: Array, groups: int) -> tuple[PerChannel, PerChannel]:
    """Mean and variance of each channel's group, from one pass.

    Of x itself, sums of squares would lose digits where the mean is large. Here they are of the
    distance to one of the channel's own values, which is at most sqrt(places) deviations from its
    mean; channels are then joined by the parallel algorithm of Chan, Golub and LeVeque (1979).
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
    """The mean over the channels of each group, for each of its channels."""
    batch, channels = x.shape
    means = jnp.mean(x.reshape(batch, groups, -1), axis=-1)
    return jnp.repeat(means, channels // groups, axis=-1)


_normalized.defvjp(_forward, _backward)
# Python runs once for arrays of the same shapes, and what it made is put wherever it is called.
_traced_once = jax.jit(_normalized, static_argnums=(0, 1, 2), inline=True)
