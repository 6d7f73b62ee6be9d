"""Train state: the arrays that a checkpoint holds."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PyTree

from diffusion_jax.diffusion import keys
from diffusion_jax.diffusion.types import Leaf
from diffusion_jax.models import Network
from diffusion_jax.training import ema


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class TrainState:
    """The state of training, a pytree.

    Args:
        step: number of updates so far, int32.
        params: parameters, float32.
        ema_params: their EMA, float32.
        opt_state: state of the optax optimizer.
        history: loss history of the `TimestepSampler`; None if it keeps none.
        second_ema_params: a second EMA of another width, or None.
    """

    step: Leaf
    params: Leaf
    ema_params: Leaf
    opt_state: Leaf
    history: Leaf = None
    second_ema_params: Leaf = None


def init_params(model: Network, seed: int, resolution: int) -> PyTree:
    """Initializes the parameters. Under jax.eval_shape only their shapes are computed."""
    image = jnp.zeros((1, resolution, resolution, model.channels))
    condition = model.example_condition(1)
    variables = model.init(keys.derive(seed, "init"), image, jnp.ones((1,)), condition)
    return variables["params"]


def param_shapes(model: Network, resolution: int) -> PyTree:
    """Returns the shapes and dtypes of the parameters, without computing them."""
    return jax.eval_shape(lambda: init_params(model, 0, resolution))


def init_state(
    model: Network,
    optimizer: optax.GradientTransformation,
    seed: int,
    resolution: int,
    history: PyTree = None,
    *,
    second_ema: bool = False,
) -> TrainState:
    """Initializes the state before the first step; each EMA is a copy of the parameters.

    history: initial loss history, `TimestepSampler.init()`. second_ema: True for a second EMA.
    """
    params = model.constrained(init_params(model, seed, resolution))
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        ema_params=jax.tree.map(jnp.copy, params),
        opt_state=optimizer.init(params),
        history=history,
        second_ema_params=jax.tree.map(jnp.copy, params) if second_ema else None,
    )


def apply_gradients(
    state: TrainState,
    gradients: PyTree,
    optimizer: optax.GradientTransformation,
    *,
    ema_weight: ema.EMAWeight,
    second_ema_weight: ema.EMAWeight | None = None,
    constrain: Callable[[PyTree], PyTree] = lambda params: params,
    norm: Array | None = None,
) -> TrainState:
    """Updates the parameters and their EMAs.

    Parameters whose name begins with "fixed_" do not change.

    Args:
        ema_weight, second_ema_weight: number of updates -> weight of the new parameters in the EMA;
            None if the state has no second EMA.
        constrain: applied to the parameters after the update, see `Network.constrained`. The
            EMAs average the parameters before it.
        norm: global norm of the gradients; required if `gradients` is one device's shard of them.
    """
    optimizer = optax.with_extra_args_support(optimizer)
    updates, opt_state = optimizer.update(gradients, state.opt_state, state.params, norm=norm)
    updates = jax.tree_util.tree_map_with_path(_unless_fixed, updates)
    params = optax.apply_updates(state.params, updates)
    second_ema_params = None
    if second_ema_weight is not None:
        weight = second_ema_weight(state.step)
        second_ema_params = ema.update(state.second_ema_params, params, weight)
    return TrainState(
        step=state.step + 1,
        params=constrain(params),
        ema_params=ema.update(state.ema_params, params, ema_weight(state.step)),
        opt_state=opt_state,
        history=state.history,
        second_ema_params=second_ema_params,
    )


def _unless_fixed(path: tuple[Any, ...], update: Leaf) -> Leaf:
    return jnp.zeros_like(update) if path[-1].key.startswith("fixed_") else update
