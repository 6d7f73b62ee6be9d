"""The state of training: the arrays that a checkpoint holds."""

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
    """step: int32, updates made so far. params, ema_params: float32. opt_state: of optax.

    history: of the losses, from which a `TimestepSampler` draws; None if it needs none.
    second_ema_params: a second average of another width; None for none.
    """

    step: Leaf
    params: Leaf
    ema_params: Leaf
    opt_state: Leaf
    history: Leaf = None
    second_ema_params: Leaf = None


def init_params(model: Network, seed: int, resolution: int) -> PyTree:
    """Fresh parameters. Usable under jax.eval_shape, which costs neither memory nor time."""
    image = jnp.zeros((1, resolution, resolution, model.channels))
    condition = model.example_condition(1)
    variables = model.init(keys.derive(seed, "init"), image, jnp.ones((1,)), condition)
    return variables["params"]


def init_state(
    model: Network,
    optimizer: optax.GradientTransformation,
    seed: int,
    resolution: int,
    history: PyTree = None,
    *,
    second: bool = False,
) -> TrainState:
    """The state before the first step; averages start as copies of the parameters.

    second: whether there are two.
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
    average: ema.Decay,
    constrain: Callable[[PyTree], PyTree] = lambda params: params,
    second: ema.Decay | None = None,
    norm: Array | None = None,
) -> TrainState:
    """One update of the parameters and of their averages.

    Parameters whose name begins with "fixed_" stay as they are. constrain: what becomes of the
    others after the update, see `Network.constrained`; the averages are of them before that.
    second: the decay of the second average, which the state then has to have. norm: that of all
    gradients, if these are a part of them.
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
        ema_params=ema.update(state.ema_params, params, average(state.step)),
        opt_state=opt_state,
        history=state.history,
        second_ema_params=second_ema_params,
    )


def _unless_fixed(path: tuple[Any, ...], update: Leaf) -> Leaf:
    return jnp.zeros_like(update) if path[-1].key.startswith("fixed_") else update
