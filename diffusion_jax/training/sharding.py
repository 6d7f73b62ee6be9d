"""Sharding of the train state: replicated on all devices, or split over them.

ZeRO (arXiv:1910.02054), stage 1: the optimizer state and the EMA are needed only in the update, so
each device updates its own part of the parameters. A reduce-scatter of the gradients and an
all-gather of the updated parameters move as many bytes as an all-reduce of the gradients.
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
    """Interface of a sharding. Methods up to `axes` run on the host, the rest in the step."""

    def init(self, make_state: Callable[[], TrainState]) -> TrainState:
        """Computes the initial state make_state() on the devices."""
        ...

    def place(self, state: TrainState) -> TrainState:
        """Puts a full state, of host arrays or on one device, on the devices."""
        ...

    def unshard(self, state: TrainState) -> TrainState:
        """Returns the full state, as checkpoints hold it. A collective of all processes."""
        ...

    def ema_params(self, state: TrainState) -> PyTree:
        """Returns the full EMA parameters on each device. A collective of all processes."""
        ...

    def axes(self) -> PyTree:
        """Returns the axes of the state for `parallel.data_parallel`."""
        ...

    def shapes_on(self, state: TrainState, devices: int) -> TrainState:
        """Returns the shapes of `place(state)` on a number of devices. state: shapes."""
        ...

    def bytes_per_device(self, state: TrainState, devices: int) -> int:
        """Returns the memory that a state takes on each of a number of devices. state: shapes."""
        ...

    def mean(self, gradients: PyTree) -> PyTree:
        """Averages gradients over the devices; returns this device's shard of the mean."""
        ...

    def norm(self, gradients: PyTree) -> Array:
        """Computes the global norm of a result of `mean`."""
        ...

    def local_shard(self, state: TrainState) -> TrainState:
        """Returns the part of the state that this device updates."""
        ...

    def gather(self, params: PyTree, like: PyTree) -> PyTree:
        """Gathers the parameters of all devices. like: arrays of their full shapes."""
        ...


class Replicated:
    """The full state on each device."""

    def init(self, make_state: Callable[[], TrainState]) -> TrainState:
        return self.place(jit_once(make_state))

    def place(self, state: TrainState) -> TrainState:
        return parallel.replicate(state)

    def unshard(self, state: TrainState) -> TrainState:
        return state

    def ema_params(self, state: TrainState) -> PyTree:
        return state.ema_params

    def axes(self) -> PyTree:
        return None

    def shapes_on(self, state: TrainState, devices: int) -> TrainState:
        return state

    def bytes_per_device(self, state: TrainState, devices: int) -> int:
        return _bytes(state)

    def mean(self, gradients: PyTree) -> PyTree:
        return parallel.mean(gradients)

    def norm(self, gradients: PyTree) -> Array:
        return optax.tree.norm(gradients)

    def local_shard(self, state: TrainState) -> TrainState:
        return state

    def gather(self, params: PyTree, like: PyTree) -> PyTree:
        return params


@dataclass(frozen=True)
class Sharded:
    """ZeRO-1: replicated parameters; EMA and optimizer state split over the devices.

    The optimizer must be elementwise, except for the global norm, which it gets as an argument.
    shapes: of the full state.
    """

    optimizer: optax.GradientTransformation
    shapes: TrainState

    def init(self, make_state: Callable[[], TrainState]) -> TrainState:
        def split() -> TrainState:
            return self._map(make_state(), map_rest=lambda x: x, map_params=parallel.split)

        return parallel.on_all_devices(split, self.axes())

    def place(self, state: TrainState) -> TrainState:
        return self._map(state, parallel.replicate, parallel.split_over_devices)

    def unshard(self, state: TrainState) -> TrainState:
        return self._map(state, lambda x: x, parallel.join_on_host, self.shapes.params)

    def ema_params(self, state: TrainState) -> PyTree:
        return parallel.replicate(parallel.join_on_host(state.ema_params, self.shapes.params))

    def axes(self) -> PyTree:
        return self._map(self.shapes, map_rest=lambda _: None, map_params=lambda _: 0)

    def shapes_on(self, state: TrainState, devices: int) -> TrainState:
        return self._map(state, lambda x: x, partial(parallel.split_shapes, devices=devices))

    def bytes_per_device(self, state: TrainState, devices: int) -> int:
        replicated = _bytes(state.params)
        return replicated + (_bytes(state) - replicated) // devices

    def mean(self, gradients: PyTree) -> PyTree:
        return parallel.reduce_scatter_mean(gradients)

    def norm(self, gradients: PyTree) -> Array:
        return jnp.sqrt(parallel.psum(optax.tree.norm(gradients, squared=True)))

    def local_shard(self, state: TrainState) -> TrainState:
        return replace(state, params=parallel.split(state.params))

    def gather(self, params: PyTree, like: PyTree) -> PyTree:
        return parallel.join(params, like)

    def _map(
        self, state: TrainState, map_rest: Callable, map_params: Callable, *like: PyTree
    ) -> TrainState:
        """Applies map_params to the EMAs and the optimizer's moments, and map_rest to the rest.

        like: nothing, or the parameters as a second argument of map_params.
        """
        opt_state = optax.tree.map_params(
            *(self.optimizer, map_params, state.opt_state, *like),
            transform_non_params=map_rest,
            is_leaf=lambda _: True,
        )
        second = state.second_ema_params
        return TrainState(
            step=map_rest(state.step),
            params=map_rest(state.params),
            ema_params=map_params(state.ema_params, *like),
            opt_state=opt_state,
            history=map_rest(state.history),
            second_ema_params=None if second is None else map_params(second, *like),
        )


def check_memory(state_bytes: int) -> None:
    """Raises ValueError if a device, or the host of CPU devices, cannot hold the train state."""
    available = parallel.memory_per_device()
    if available is not None and state_bytes > available:
        raise ValueError(
            f"The train state (parameters, EMA and optimizer) takes {state_bytes / 1e9:,.1f} "
            f"GB on each device, which has {available / 1e9:,.1f} GB; lower model.width, or, with "
            "several devices, set shard_state=True"
        )


def _bytes(tree: PyTree) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def jit_once(function: Callable[[], PyTree]) -> PyTree:
    """Returns jax.jit(function)(), compiled at XLA's optimization level 1 to save compile time.

    A level in XLA_FLAGS takes precedence.
    """
    level = "xla_backend_optimization_level"
    given = level in os.environ.get("XLA_FLAGS", "")
    return jax.jit(function, compiler_options={} if given else {level: 1})()
