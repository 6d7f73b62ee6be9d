"""Parameters of layers: fast lookup, and their layout in memory."""

# FastLookup is a mixin, whose attributes are those of nn.Module.
# pyright: reportAttributeAccessIssue=false

from typing import Any

import flax.linen as nn
import numpy as np
from flax.errors import ScopeParamShapeError
from jax.experimental.layout import Layout, with_layout_constraint
from jaxtyping import Array


class FastLookup:
    """A mixin for Flax modules that looks up parameters without tracing their initializers.

    Flax traces the initializer at each call to compare shapes, which is most of the time to trace a
    network. The mixin compares the shapes directly. It comes before `nn.Module` among the bases.
    """

    def param(
        self, name: str, init: nn.initializers.Initializer, shape: tuple[int, ...], *rest: Any
    ) -> Any:
        """Returns the parameter. Raises ScopeParamShapeError if it has another shape."""
        if self.is_initializing() or not self.has_variable("params", name):
            return super().param(name, init, shape, *rest)
        value = self.get_variable("params", name)
        if np.shape(value) != tuple(shape):
            where = "/" + "/".join(self.path)
            raise ScopeParamShapeError(name, where, np.shape(value), tuple(shape))
        return value


def row_major(x: Array) -> Array:
    """Constrains x and its gradient to the row-major layout, with the last axis contiguous.

    Between float32 parameters and bfloat16 kernels this keeps the layout that cuDNN prefers, and
    its copies, away from the optimizer's arrays.
    """
    return with_layout_constraint(x, Layout(tuple(range(x.ndim))))
