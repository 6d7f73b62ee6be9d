"""What a network computes before it sees an image, so that a sampling loop need not repeat it.

A part of a network that depends on the parameters, the level or the condition alone says so by
`precompute`. In training it is computed where it stands. A sampler computes it before its loop, by
`computed`, and passes it to `apply` as one more collection of variables.
"""

from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Int, PyTree

from diffusion_jax.diffusion.types import CNoise, Condition
from diffusion_jax.models.network import Network

# The collections, by what their values depend on besides the parameters, on which all do.
OF_PARAMS, OF_LEVEL, OF_CONDITION = "of_params", "of_level", "of_condition"


def precompute(
    module: nn.Module, collection: str, name: str, compute: Callable[[], Array]
) -> Array:
    """compute(), or its precomputed value, where the variables have it.

    collection: what compute depends on, one of the three above. For OF_LEVEL and OF_CONDITION the
    value has a row for each of the batch. name: any, once in a module that runs once in a pass.
    """
    if module.has_variable(collection, name):
        return module.get_variable(collection, name)
    value = compute()
    if module.is_mutable_collection(collection) and not module.is_initializing():
        module.put_variable(collection, name, value)
    return value


def computed(
    model: Network,
    collection: str,
    variables: PyTree,
    shape: tuple[int, int, int],
    c_noise: CNoise,
    condition: Condition,
    examples: Int[Array, "batch"],
) -> PyTree:
    """The values of one collection, for `apply`: {collection: values}.

    variables: the parameters, and what is computed already. shape: (height, width, channels) of
    images. The compiler drops the rest of the network, whose result is not used.
    """
    x = jnp.zeros((c_noise.shape[0], *shape))
    _, values = model.apply(
        variables, x, c_noise, condition, examples=examples, mutable=[collection]
    )
    return values
