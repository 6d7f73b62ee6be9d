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
        history: history of the losses for the `TimestepSampler`; None if it needs none.
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
    """Returns shapes and types of the parameters; costs neither memory nor time."""
    return jax.eval_shape(lambda: init_params(model, 0, resolution))


def init_state(
    model: Network,
    optimizer: optax.GradientTransformation,
    seed: int,
    resolution: int,
    history: PyTree = None,
    *,
    second: bool = False,
) -> TrainState:
    """Initializes the state before the first step; each EMA is a copy of the parameters.

    second: True for a second EMA.
    """
    params = model.constrained(init_params(model, seed, resolution))
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        ema_params=jax.tree.map(jnp.copy, params),
        opt_state=optimizer.init(params),
        history=history,
        second_ema_params=jax.tree.map(jnp.copy, params) if second else None,
    )


def apply_gradients(
    state: TrainState,
    gradients: PyTree,
    optimizer: optax.GradientTransformation,
    ema_weight: ema.EMAWeight,
    constrain: Callable[[PyTree], PyTree] = lambda params: params,
    second: ema.EMAWeight | None = None,
    norm: Array | None = None,
) -> TrainState:
    """Updates the parameters and their averages.

    Parameters whose name begins with "fixed_" do not change.

    Args:
        ema_weight: of the new parameters in the EMA.
        constrain: applied to the parameters after the update, see `Network.constrained`. The
            EMAs average the parameters before it.
        second: weight in the second EMA; None if the state has none.
        norm: norm of all gradients, if `gradients` are a part of them.
    """
    optimizer = optax.with_extra_args_support(optimizer)
    updates, opt_state = optimizer.update(gradients, state.opt_state, state.params, norm=norm)
    updates = jax.tree_util.tree_map_with_path(_unless_fixed, updates)
    params = optax.apply_updates(state.params, updates)
    second_ema_params = None
    if second is not None:
        before = state.second_ema_params
        second_ema_params = ema.update(before, params, second(state.step))
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
