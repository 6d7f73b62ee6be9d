"""FLOPs of a function, counted in its program before XLA optimizes it.

Convolutions and matrix products count, with two operations for each multiply-add. Zeros of the
padding count; the holes of a dilated input (transposed convolutions) do not. Other operations are
left out, since they are bound by memory.
"""

import math
import re
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr
from jax.interpreters.partial_eval import dce_jaxpr
from jaxtyping import PyTree
from ml_collections import ConfigDict

# Dense bfloat16 peak, TFLOP/s, by a part of JAX's device_kind; from the makers' data sheets.
PEAK_TFLOPS = {
    "H200": 989,
    "H100 PCIe": 756,
    "H100": 989,
    "A100": 312,
    "L40S": 362,
    "L4": 121,
    "A10G": 70,
    "RTX 4090": 165,
    "TPU v4": 275,
    "TPU v5 lite": 197,
    "TPU v5": 459,
    "TPU v6 lite": 918,
}


def count_flops(function: Callable, *args: Any, unused: bool = True) -> int:
    """Counts the FLOPs of function(*args); shapes (jax.ShapeDtypeStruct) suffice.

    unused: True to count operations that the result does not depend on.
    """
    jaxpr = jax.make_jaxpr(function)(*args).jaxpr
    return _count(jaxpr if unused else dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))[0])


def forward_flops(config: ConfigDict, params: PyTree) -> int:
    """Counts the FLOPs of the network for one image."""
    from diffusion_jax.config.experiment import make_model

    model, side = make_model(config), config.data.resolution
    image = jax.ShapeDtypeStruct((1, side, side, model.channels), jnp.float32)
    c_noise = jax.ShapeDtypeStruct((1,), jnp.float32)
    labels = jax.ShapeDtypeStruct((1,), jnp.int32) if model.num_classes else None
    return count_flops(model.apply, {"params": params}, image, c_noise, labels)


def peak_tflops(device: jax.Device) -> int | None:
    """Returns the peak of a device, or None if unknown."""
    for name, peak in PEAK_TFLOPS.items():
        if re.search(rf"\b{name}\b", device.device_kind):
            return peak
    return None


def _count(jaxpr: Jaxpr) -> int:
    total = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "conv_general_dilated":
            total += _convolution(equation)
        elif equation.primitive.name == "dot_general":
            total += _product(equation)
        elif equation.primitive.name == "cond":  # one of its branches runs
            total += max(map(_count, _inner(equation.params)))
        else:
            repeats = equation.params.get("length", 1) if equation.primitive.name == "scan" else 1
            total += repeats * sum(map(_count, _inner(equation.params)))
    return total


def _convolution(equation: Any) -> int:
    kernel = equation.invars[1].aval.shape
    out_features = kernel[equation.params["dimension_numbers"].rhs_spec[0]]
    multiply_adds = math.prod(equation.outvars[0].aval.shape) * math.prod(kernel) // out_features
    return 2 * multiply_adds // math.prod(equation.params["lhs_dilation"])


def _product(equation: Any) -> int:
    (contracted, _), _ = equation.params["dimension_numbers"]
    left = equation.invars[0].aval.shape
    return 2 * math.prod(equation.outvars[0].aval.shape) * math.prod(left[i] for i in contracted)


def _inner(params: dict[str, Any]) -> Iterator[Jaxpr]:
    for value in params.values():
        for item in value if isinstance(value, list | tuple) else [value]:
            if isinstance(item, ClosedJaxpr):
                yield item.jaxpr
            elif isinstance(item, Jaxpr):
                yield item
