"""Where the state of training lies: whole on each device, or split over them.

ZeRO (arXiv:1910.02054), stage 1: optimizer and averages are needed in the update alone, which each
device then makes for its own part of all parameters. Gradients are summed for that part, and the
new parameters go to all devices: together as many bytes as the sum of whole gradients.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PyTree

from diffusion_jax import parallel
from diffusion_jax.training.state import TrainState


@runtime_checkable
class Sharding(Protocol):
    """What training asks of it. Methods up to `axes` are for the host, the others for the step."""

    def begin(self, fresh: Callable[[], TrainState]) -> TrainState:
        """fresh(), on the devices."""

    def place(self, state: TrainState) -> TrainState:
        """A whole state, of host arrays or on one device -> on the devices."""

    def whole(self, state: TrainState) -> TrainState:
        """The state, such as checkpoints have it. All processes have to call."""

    def average(self, state: TrainState) -> PyTree:
        """Its ema_params, whole on each device. All processes have to call."""

    def axes(self) -> PyTree:
        """Of the state, for `parallel.data_parallel`."""

    def shapes_on(self, state: TrainState, devices: int) -> TrainState:
        """The shapes of what `place` makes of a state of shapes, on so many devices."""

    def mean(self, gradients: PyTree) -> PyTree:
        """The mean over the devices, of what this one updates."""

    def norm(self, gradients: PyTree) -> Array:
        """The global norm of what `mean` returned."""

    def updated(self, state: TrainState) -> TrainState:
        """What this device updates of the state."""

    def joined(self, params: PyTree, like: PyTree) -> PyTree:
        """The parameters of all devices. like: arrays of their shapes."""


class Replicated:
    """The whole state on each device."""

    def begin(self, fresh: Callable[[], TrainState]) -> TrainState:
        return self.place(run_once(fresh))

    def place(self, state: TrainState) -> TrainState:
        return parallel.replicate(state)

    def whole(self, state: TrainState) -> TrainState:
        return state

    def average(self, state: TrainState) -> PyTree:
        return state.ema_params

    def axes(self) -> PyTree:
        return None

    def shapes_on(self, state: TrainState, devices: int) -> TrainState:
        return state

    def mean(self, gradients: PyTree) -> PyTree:
        return parallel.mean(gradients)

    def norm(self, gradients: PyTree) -> Array:
        return optax.tree.norm(gradients)

    def updated(self, state: TrainState) -> TrainState:
        return state

    def joined(self, params: PyTree, like: PyTree) -> PyTree:
        return params


@dataclass(frozen=True)
class Split:
    """ZeRO-1: the parameters on each device, averages and optimizer in as many parts.

    The optimizer has to treat each number alone, but for the norm of all, which it is told.
    shapes: of the whole state.
    """

    optimizer: optax.GradientTransformation
    shapes: TrainState

    def begin(self, fresh: Callable[[], TrainState]) -> TrainState:
        def split() -> TrainState:
            return self._map(fresh(), of_others=lambda x: x, of_params=parallel.split)

        return parallel.on_all(split, self.axes())

    def place(self, state: TrainState) -> TrainState:
        return self._map(state, parallel.replicate, parallel.split_over_devices)

    def whole(self, state: TrainState) -> TrainState:
        return self._map(state, lambda x: x, parallel.joined_on_host, self.shapes.params)

    def average(self, state: TrainState) -> PyTree:
        return parallel.replicate(parallel.joined_on_host(state.ema_params, self.shapes.params))

    def axes(self) -> PyTree:
        return self._map(self.shapes, of_others=lambda _: None, of_params=lambda _: 0)

    def shapes_on(self, state: TrainState, devices: int) -> TrainState:
        return self._map(state, lambda x: x, partial(parallel.split_shapes, devices=devices))

    def mean(self, gradients: PyTree) -> PyTree:
        return parallel.split_mean(gradients)

    def norm(self, gradients: PyTree) -> Array:
        return jnp.sqrt(parallel.total(optax.tree.norm(gradients, squared=True)))

    def updated(self, state: TrainState) -> TrainState:
        return replace(state, params=parallel.split(state.params))

    def joined(self, params: PyTree, like: PyTree) -> PyTree:
        return parallel.join(params, like)

    def _map(
        self, state: TrainState, of_others: Callable, of_params: Callable, *like: PyTree
    ) -> TrainState:
        """The state after of_params of each tree that is split, and of_others of the rest.

        like: one more argument of of_params, the parameters.
        """
        of_optimizer = optax.tree.map_params(
            *(self.optimizer, of_params, state.opt_state, *like),
            transform_non_params=of_others,
            is_leaf=lambda _: True,
        )
        second = state.second_ema_params
        return TrainState(
            step=of_others(state.step),
            params=of_others(state.params),
            ema_params=of_params(state.ema_params, *like),
            opt_state=of_optimizer,
            history=of_others(state.history),
            second_ema_params=None if second is None else of_params(second, *like),
        )


def run_once(function: Callable[[], PyTree]) -> PyTree:
    """function(), compiled in less time than `jax.jit` takes, to a program that may be slower.

    What XLA_FLAGS says of the optimization level holds here, too.
    """
    level = "xla_backend_optimization_level"
    said = level in os.environ.get("XLA_FLAGS", "")
    return jax.jit(function, compiler_options={} if said else {level: 1})()
