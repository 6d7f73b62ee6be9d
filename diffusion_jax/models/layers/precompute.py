"""Parts of a network that do not depend on the image, computed once outside the sampling loop.

`precompute` marks a part that depends on the parameters, the noise level or the condition alone;
training computes it in place. A sampler computes all marked parts before its loop, by
`compute_collection`, and passes them to `apply` as further variables.
"""

from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Int, PyTree

from diffusion_jax.diffusion.types import CNoise, Condition
from diffusion_jax.models.network import Network

# Names of the collections. Values depend on the parameters and, for the last two, on the level or
# the condition.
OF_PARAMS, OF_LEVEL, OF_CONDITION = "of_params", "of_level", "of_condition"


def precompute(
    module: nn.Module, collection: str, name: str, compute: Callable[[], Array]
) -> Array:
    """Returns compute(), or its precomputed value if the variables contain it.

    Args:
        collection: OF_PARAMS, OF_LEVEL or OF_CONDITION. For the latter two the value has a row for
            each example of the batch.
        name: unique within the module, which must run once in a forward pass.
    """
    if module.has_variable(collection, name):
        return module.get_variable(collection, name)
    value = compute()
    if module.is_mutable_collection(collection) and not module.is_initializing():
        module.put_variable(collection, name, value)
    return value


def compute_collection(
    model: Network,
    collection: str,
    variables: PyTree,
    shape: tuple[int, int, int],
    c_noise: CNoise,
    condition: Condition,
    examples: Int[Array, "batch"],
) -> PyTree:
    """Computes the values of one collection, as variables for `apply`: {collection: values}.

    The compiler removes the rest of the network, whose result is unused.

    Args:
        variables: the parameters, and collections computed before.
        shape: (height, width, channels) of the images.
    """
    x = jnp.zeros((c_noise.shape[0], *shape))
    _, values = model.apply(
        variables, x, c_noise, condition, examples=examples, mutable=[collection]
    )
    return values
