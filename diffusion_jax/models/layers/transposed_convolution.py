"""Transposed convolution as the adjoint of a strided one.

XLA's own version inserts zeros between the pixels and multiplies them, which costs stride^2 times
as much. In cuDNN's words the adjoint and its two derivatives are backward data, forward and
backward filter of the strided convolution.
"""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, DTypeLike, Float

from diffusion_jax.models.layers.parameters import FastLookup, row_major
from diffusion_jax.models.layers.precompute import OF_PARAMS, precompute

Small = Float[Array, "batch height width channels"]
Large = Float[Array, "batch tall wide features"]
Kernel = Float[Array, "size size channels features"]


class ConvTranspose(FastLookup, nn.Module):
    """A transposed convolution equal to `nn.ConvTranspose(padding="SAME")`.

    The sides of a map are multiplied by the stride.

    Args:
        size: side of the kernel, the stride plus an even number.
    """

    features: int
    size: int
    stride: int
    dtype: DTypeLike
    kernel_init: nn.initializers.Initializer

    @nn.compact
    def __call__(self, x: Small) -> Large:
        shape = (self.size, self.size, x.shape[-1], self.features)
        raw = jnp.asarray(self.param("kernel", self.kernel_init, shape))  # NumPy's if imported
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,))
        cast = row_major(raw.astype(self.dtype))
        kernel = precompute(self, OF_PARAMS, "kernel", lambda: _prepared(cast))
        shift = precompute(self, OF_PARAMS, "bias", lambda: jnp.asarray(bias, self.dtype))
        y: Any = _adjoint(self.stride, x.astype(self.dtype), kernel)
        return y + shift[None, None, None, :]


def _prepared(kernel: Kernel) -> Kernel:
    """Returns the kernel of the forward pass: unchanged on a CPU, that of `_strided` elsewhere."""
    return jax.lax.platform_dependent(kernel, cpu=lambda kernel: kernel, default=_turned)


def _turned(kernel: Kernel) -> Kernel:
    """Rotates the kernel by 180 degrees, behind a barrier that keeps XLA from undoing it."""
    return jax.lax.optimization_barrier(jnp.flip(kernel, (0, 1)))


def _strided(stride: int, y: Large, turned: Kernel) -> Small:
    margin = (turned.shape[0] - stride) // 2
    padding = ((margin, margin),) * 2
    numbers = ("NHWC", "HWOI", "NHWC")  # from features to channels
    return jax.lax.conv_general_dilated(
        y, turned, (stride, stride), padding, dimension_numbers=numbers
    )


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _adjoint(stride: int, x: Small, prepared: Kernel) -> Large:
    """Applies the adjoint of y -> _strided(stride, y, turned) to x."""
    on_cpu, elsewhere = partial(_by_phases, stride), partial(_transposed, stride)
    return jax.lax.platform_dependent(x, prepared, cpu=on_cpu, default=elsewhere)


def _by_phases(stride: int, x: Small, kernel: Kernel) -> Large:
    """Computes the adjoint by stride^2 ordinary convolutions, for CPUs, where XLA has no adjoint.

    Along an axis the pixels `phase`, `phase + stride`, ... use the same taps, every stride-th one.
    The first of them is on the input pixel at the offset `shift`.
    """
    size, (batch, height, width, _) = kernel.shape[0], x.shape
    before = (size + stride) // 2 - 1

    def along(phase: int) -> tuple[slice, tuple[int, int]]:
        first = (before - phase) % stride
        shift = (phase + first - before) // stride
        taps = slice(first, None, stride)
        return taps, (-shift, len(range(size)[taps]) - 1 + shift)

    def of(rows: int, columns: int) -> Small:
        (tall, of_rows), (wide, of_columns) = along(rows), along(columns)
        return jax.lax.conv_general_dilated(
            *(x, kernel[tall, wide], (1, 1), (of_rows, of_columns)),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )

    phases = range(stride)
    woven = jnp.stack([jnp.stack([of(a, b) for b in phases], axis=3) for a in phases], axis=2)
    return woven.reshape(batch, stride * height, stride * width, -1)


def _transposed(stride: int, x: Small, turned: Kernel) -> Large:
    batch, height, width, _ = x.shape
    large = (batch, stride * height, stride * width, turned.shape[3])
    strided = partial(_strided, stride, turned=turned)
    return jax.linear_transpose(strided, jax.ShapeDtypeStruct(large, x.dtype))(x)[0]


def _forward(stride: int, x: Small, prepared: Kernel) -> tuple[Large, tuple[Small, Kernel]]:
    return _adjoint(stride, x, prepared), (x, prepared)


def _backward(stride: int, kept: tuple[Small, Kernel], dy: Large) -> tuple[Small, Kernel]:
    """Differentiates <adjoint(x), dy> = <x, strided(dy, turned)>, which is linear in both."""
    x, prepared = kept
    same = partial(jax.lax.platform_dependent, default=lambda kernel: kernel)
    turned = same(prepared, cpu=_turned)
    (dkernel,) = jax.linear_transpose(partial(_strided, stride, dy), turned)(x)
    return _strided(stride, dy, turned), same(dkernel, cpu=_turned)


_adjoint.defvjp(_forward, _backward)
