"""Parameters that are looked up without tracing how they would be initialized."""

from typing import Any

import flax.linen as nn
import numpy as np
from flax.errors import ScopeParamShapeError


class LookedUp:
    """What makes a module of Flax find its parameters in a third of the time.

    Flax traces the initializer of a parameter at each call of a network, for its shape. That is
    most of the time that it takes to trace a network. Here the shape is compared as it is given.
    Comes before `nn.Module` among the bases.
    """

    def param(
        self, name: str, init: nn.initializers.Initializer, shape: tuple[int, ...], *rest: Any
    ) -> Any:
        """The parameter. Raises ScopeParamShapeError if it has another shape."""
        if self.is_initializing() or not self.has_variable("params", name):
            return super().param(name, init, shape, *rest)
        value = self.get_variable("params", name)
        if np.shape(value) != tuple(shape):
            where = "/" + "/".join(self.path)
            raise ScopeParamShapeError(name, where, np.shape(value), tuple(shape))
        return value
