"""Layers with derivatives of their own, against Flax's."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.errors import ScopeParamShapeError

from diffusion_jax.models.layers import convolutions, normalization, transposed_convolution
from diffusion_jax.models.layers.convolutions import standardized
from diffusion_jax.models.layers.normalization import GroupNorm
from diffusion_jax.models.layers.transposed_convolution import ConvTranspose

CLOSE = {"rtol": 1e-5, "atol": 1e-5}


def normal(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape)


def slopes(module, variables, *inputs):
    """The gradients of sum(result * a fixed array) in the parameters and in every input."""

    def loss(variables, *inputs):
        y = module.apply(variables, *inputs)
        return jnp.sum(y * normal(9, *y.shape))

    return jax.grad(loss, tuple(range(1 + len(inputs))))(variables, *inputs)


def assert_close(ours, theirs):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **CLOSE), ours, theirs)


class FlaxNorm(nn.Module):
    """activation(norm(x) * scale + shift), from parts of Flax and JAX."""

    groups: int
    activation: object

    @nn.compact
    def __call__(self, x, scale=None, shift=None):
        y = nn.GroupNorm(self.groups, epsilon=1e-5, use_fast_variance=False, name="norm")(x)
        y = y if scale is None else y * scale[:, None, None, :]
        y = y if shift is None else y + shift[:, None, None, :]
        return self.activation(y)


@pytest.mark.parametrize("given", [(), ("scale",), ("scale", "shift")])
@pytest.mark.parametrize("activation", [jax.nn.silu, normalization.identity])
def test_group_norm_with_scale_shift_activation_and_gradients_equals_flax(activation, given):
    x = 2 * normal(0, 3, 4, 5, 12) + 1
    more = [normal(1 + i, 3, 12) for i in range(len(given))]
    ours, theirs = GroupNorm(4, activation=activation), FlaxNorm(4, activation)
    norm = {"scale": 1 + normal(3, 12), "bias": normal(4, 12)}
    variables = {"params": {"norm": norm}}
    assert jax.tree.map(jnp.shape, ours.init(jax.random.key(0), x)) == {
        "params": {"norm": {"scale": (12,), "bias": (12,)}}
    }
    assert_close(ours.apply(variables, x, *more), theirs.apply(variables, x, *more))
    assert_close(slopes(ours, variables, x, *more), slopes(theirs, variables, x, *more))


def test_a_large_mean_costs_group_norm_no_digits():
    x = normal(0, 2, 16, 16, 8).astype(jnp.float32) + 3000
    ours = GroupNorm(2)
    y = ours.apply(ours.init(jax.random.key(0), x), x)
    exact = np.asarray(x, np.float64).reshape(2, 256, 2, 4)
    exact -= exact.mean((1, 3), keepdims=True)
    exact /= np.sqrt(np.square(exact).mean((1, 3), keepdims=True) + 1e-5)
    # The rounding of the mean is 3000 * 2^-24 = 2e-4; a mean of squares would be wrong by 0.5.
    np.testing.assert_allclose(y, exact.reshape(x.shape), rtol=0, atol=4e-4)


def test_group_norm_of_bfloat16_is_rounded_once():
    x = normal(0, 2, 4, 4, 8).astype(jnp.bfloat16)
    ours = GroupNorm(2, activation=jax.nn.silu)
    variables = ours.init(jax.random.key(0), x)
    exact = ours.apply(variables, x.astype(jnp.float32))
    assert ours.apply(variables, x).dtype == jnp.bfloat16
    np.testing.assert_array_equal(ours.apply(variables, x), exact.astype(jnp.bfloat16))


def test_both_forms_of_the_sums_equal_sums_by_hand():
    du, distance = normal(0, 2, 6, 3), normal(1, 2, 6, 3)
    by_hand = np.zeros((2, 2, 3))
    for place in range(6):
        by_hand[0] += np.asarray(du[:, place])
        by_hand[1] += np.asarray(du[:, place]) * np.asarray(distance[:, place])
    assert_close(normalization._two_sums(du, distance), tuple(by_hand))
    assert_close(normalization._double_sum(du, distance), tuple(by_hand))


@pytest.mark.parametrize("size", [4, 2])
def test_the_transposed_convolution_equals_flax_and_its_gradients(size):
    x = normal(0, 2, 5, 6, 3)
    theirs = nn.ConvTranspose(7, (size, size), strides=(2, 2))
    ours = ConvTranspose(7, size, 2, jnp.float32, nn.initializers.lecun_normal())
    variables = theirs.init(jax.random.key(1), x)
    variables["params"]["bias"] = normal(2, 7)
    assert_close(ours.apply(variables, x), theirs.apply(variables, x))
    assert_close(slopes(ours, variables, x), slopes(theirs, variables, x))


@pytest.mark.parametrize("size", [4, 2])
def test_the_adjoint_equals_the_convolution_with_zeros(size):
    x, kernel = normal(0, 2, 5, 6, 3), normal(1, size, size, 3, 7)
    with_zeros = jax.lax.conv_transpose(x, kernel, (2, 2), "SAME")
    adjoint = transposed_convolution._transposed(2, x, transposed_convolution._turned(kernel))
    np.testing.assert_allclose(adjoint, with_zeros, **CLOSE)
    # <adjoint(x), y> = <x, strided(y)>, pixel by pixel.
    y = normal(2, *adjoint.shape)
    strided = transposed_convolution._strided(2, y, transposed_convolution._turned(kernel))
    np.testing.assert_allclose(jnp.sum(adjoint * y), jnp.sum(x * strided), rtol=1e-4)


@pytest.mark.parametrize(("size", "stride"), [(4, 2), (2, 2), (6, 2), (3, 3), (5, 3), (3, 1)])
def test_phases_equal_the_convolution_with_zeros(size, stride):
    x, kernel = normal(0, 2, 5, 6, 3), normal(1, size, size, 3, 7)
    with_zeros = jax.lax.conv_transpose(x, kernel, (stride, stride), "SAME")
    np.testing.assert_allclose(
        transposed_convolution._by_phases(stride, x, kernel), with_zeros, **CLOSE
    )


def test_weight_standardization_has_the_full_gradient():
    kernel = 0.1 * normal(0, 3, 3, 4, 5) + 0.05

    def with_all_slopes(kernel):
        mean = jnp.mean(kernel, (0, 1, 2), keepdims=True)
        variance = jnp.mean((kernel - mean) ** 2, (0, 1, 2), keepdims=True)
        return (kernel - mean) / jnp.sqrt(variance + 1e-5)

    np.testing.assert_allclose(standardized(kernel), with_all_slopes(kernel), **CLOSE)
    weights = normal(1, *kernel.shape)
    ours, theirs = (
        jax.grad(lambda kernel, f=f: jnp.sum(f(kernel) * weights))(kernel)
        for f in (standardized, with_all_slopes)
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


def test_parameters_of_another_shape_are_refused():
    """By layers of Flax and by our own, as Flax itself would say it."""
    for layer, wrong in (
        (convolutions.dense(3, "dense", jnp.float32), {"kernel": (5, 3), "bias": (3,)}),
        (GroupNorm(1), {"norm": {"scale": (5,), "bias": (4,)}}),
    ):
        x = jnp.ones((2, 4))
        params = jax.tree.map(jnp.ones, wrong, is_leaf=lambda shape: isinstance(shape, tuple))
        with pytest.raises(ScopeParamShapeError, match=r'"(kernel|scale)" in "/(norm)?".*\(5'):
            layer.apply({"params": params}, x)
