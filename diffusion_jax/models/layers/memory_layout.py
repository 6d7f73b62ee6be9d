"""How arrays lie in memory, which a compiler would choose otherwise."""

from jax.experimental.layout import Layout, with_layout_constraint
from jaxtyping import Array


def row_major(x: Array) -> Array:
    """x, whose last axis is the one without gaps in memory; so is that of its gradient.

    On the way from parameters in float32 to kernels in bfloat16 this keeps the layout that cuDNN
    prefers, and the copies that it takes, from reaching the optimizer's arrays.
    """
    return with_layout_constraint(x, Layout(tuple(range(x.ndim))))
