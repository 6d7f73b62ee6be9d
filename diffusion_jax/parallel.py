"""Data parallelism: the only file that says `pmap`.

Batches are split over all devices of all machines; state and numbers are the same on each. State
enters and leaves without a leading device axis, so nothing is ever replicated or unreplicated by
hand.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jaxtyping import Array, Int, PyTree

AXIS = "devices"


def check_batch_size(batch_size: int, micro_batches: int = 1) -> None:
    """Raises ValueError unless the global batch splits evenly."""
    devices = jax.device_count()
    if batch_size % (devices * micro_batches):
        parts = f"{devices} devices"
        if micro_batches > 1:
            parts += f" times micro_batches={micro_batches}"
        raise ValueError(f"batch_size={batch_size} is not divisible by {parts}")


def round_up(count: int) -> int:
    """The smallest number from `count` on that all devices can share evenly."""
    devices = jax.device_count()
    return -(-count // devices) * devices


def shard(batch: PyTree) -> PyTree:
    """(rows, ...) -> (local devices, rows / local devices, ...) for every host array."""
    devices = jax.local_device_count()
    return jax.tree.map(lambda rows: rows.reshape(devices, -1, *rows.shape[1:]), batch)


def replicate(tree: PyTree) -> PyTree:
    """The tree on every device, as `data_parallel` leaves its state.

    A first call with arrays placed otherwise would compile the step a second time for the next.
    """
    place = jax.pmap(lambda tree, _: tree, axis_name=AXIS, in_axes=(None, 0), out_axes=None)
    return place(tree, np.zeros(jax.local_device_count()))


def data_parallel(step: Callable[[Any, PyTree], tuple[Any, PyTree]]) -> Callable:
    """step(state, batch) -> (state, metrics), run on all devices at once.

    The state's buffers are donated. What `step` returns must be equal on all devices: it has to
    pass gradients through `mean` and metrics through `gather` or `mean`.
    """
    return jax.pmap(step, axis_name=AXIS, in_axes=(None, 0), out_axes=None, donate_argnums=0)


def spread(function: Callable[[PyTree, PyTree, PyTree], PyTree]) -> Callable:
    """function(params, numbers, batch) -> rows, with the batch's rows spread over all devices.

    Takes each process's share of the batch, and returns the rows of all, in order, on the host.
    """
    mapped = jax.pmap(
        lambda params, numbers, batch: gather(function(params, numbers, batch)),
        axis_name=AXIS,
        in_axes=(None, None, 0),
        out_axes=None,
    )

    def run(params: PyTree, numbers: PyTree, batch: PyTree) -> PyTree:
        return jax.device_get(mapped(params, numbers, shard(batch)))

    return run


def local_rows(batch: PyTree) -> PyTree:
    """Of a global batch on the host, the rows that belong to this process."""

    def rows(array: np.ndarray) -> np.ndarray:
        share = len(array) // jax.process_count()
        return array[jax.process_index() * share :][:share]

    return jax.tree.map(rows, batch)


def from_first(array: np.ndarray) -> np.ndarray:
    """What the first process has, in all of them: what they would else see differently on disk."""
    if jax.process_count() == 1:
        return array
    return np.asarray(multihost_utils.broadcast_one_to_all(array))


def wait_for_all(name: str) -> None:
    """Until every process is here."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def global_rows(rows: int) -> Int[Array, "rows"]:
    """Inside `data_parallel`: the indices in the global batch of this device's rows."""
    return jax.lax.axis_index(AXIS) * rows + jnp.arange(rows)


def mean(tree: PyTree) -> PyTree:
    """Inside `data_parallel`: the mean over the devices."""
    return jax.lax.pmean(tree, AXIS)


def stack(tree: PyTree) -> PyTree:
    """Inside `data_parallel`: the arrays of all devices, one below the other."""
    return jax.lax.all_gather(tree, AXIS)


def gather(tree: PyTree) -> PyTree:
    """Inside `spread`: the rows of all devices, in order."""
    return jax.lax.all_gather(tree, AXIS, tiled=True)
