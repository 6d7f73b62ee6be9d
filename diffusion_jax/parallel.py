"""Data parallelism; the only file that uses `pmap`.

Batches are sharded over all devices of all processes; state and metrics are replicated. The state
is passed and returned without a leading device axis. Only arrays that `split` has divided over the
devices have one: (local devices, elements per device).
"""

import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jaxtyping import Array, Int, PyTree

AXIS = "devices"


def check_batch_size(batch_size: int, micro_batches: int = 1) -> None:
    """Raises ValueError unless the global batch divides evenly over devices and micro-batches."""
    devices = jax.device_count()
    if batch_size % (devices * micro_batches):
        parts = f"{devices} devices"
        if micro_batches > 1:
            parts += f" times micro_batches={micro_batches}"
        raise ValueError(f"batch_size={batch_size} is not divisible by {parts}")


def split_cpu(devices: int, rows: int = 0) -> None:
    """Splits the CPU into a number of JAX devices, at most one per core.

    Small operations are faster on one core each than on all cores one after another. Has no effect
    once JAX has computed anything, if the environment sets the number (JAX_NUM_CPU_DEVICES or
    XLA_FLAGS), with several processes, or on GPUs and TPUs.

    Args:
        devices: largest number of devices.
        rows: rows of a batch, which the number must divide; 0 for no such limit.
    """
    given = "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    if given or "JAX_NUM_CPU_DEVICES" in os.environ or jax.distributed.is_initialized():
        return
    # XLA has a thread for each core. With fewer threads than devices an all-reduce may deadlock.
    affinity = getattr(os, "sched_getaffinity", lambda _: range(os.cpu_count() or 1))
    devices = math.gcd(min(devices, len(affinity(0))), rows)
    with suppress(RuntimeError):  # JAX is initialized
        jax.config.update("jax_num_cpu_devices", devices)


def round_up(count: int) -> int:
    """Rounds up to a multiple of the number of devices."""
    devices = jax.device_count()
    return -(-count // devices) * devices


def shard(batch: PyTree) -> PyTree:
    """Reshapes host arrays: (rows, ...) -> (local devices, rows / local devices, ...)."""
    devices = jax.local_device_count()
    return jax.tree.map(lambda rows: rows.reshape(devices, -1, *rows.shape[1:]), batch)


def replicate(tree: PyTree) -> PyTree:
    """Copies the tree to all devices, with the sharding of the results of `data_parallel`.

    Any other sharding in the first call would compile the step again in the second.
    """
    sharding = _sharding(None)
    devices = sorted(sharding.addressable_devices, key=lambda device: device.id)

    def place(leaf: Array | np.ndarray) -> Array:
        # The step overwrites these buffers, so they must not be shared.
        copies = [jax.device_put(leaf, device, may_alias=False) for device in devices]
        return jax.make_array_from_single_device_arrays(np.shape(leaf), sharding, copies)

    return jax.tree.map(place, tree)


def split_over_devices(tree: PyTree) -> PyTree:
    """Copies host arrays, equal in all processes, to the devices, each its part of `split`."""
    sharding = _sharding(0)

    def place(leaf: Array | np.ndarray) -> Array:
        rows = local_rows(_padded_rows(np, np.asarray(leaf), jax.device_count()))
        return jax.make_array_from_callback(rows.shape, sharding, lambda index: rows[index])

    return jax.tree.map(place, tree)


def split_shapes(tree: PyTree, devices: int) -> PyTree:
    """Returns the shapes of `split_over_devices` with a number of devices in one process."""

    def of(leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
        shape = (devices, -(-leaf.size // devices))
        return jax.ShapeDtypeStruct(shape, leaf.dtype)

    return jax.tree.map(of, tree)


def join_on_host(parts: PyTree, like: PyTree) -> PyTree:
    """Copies split arrays to the host, in the shapes of `like`. A collective of all processes."""

    def joined(part: Array, whole: Any) -> np.ndarray:
        rows = np.array(part)  # a copy: on a CPU, a view would share a buffer that may be donated
        if jax.process_count() > 1:
            rows = multihost_utils.process_allgather(rows, tiled=True)
        return np.asarray(_unpad(rows, whole.shape))

    return jax.tree.map(joined, parts, like)


def on_all_devices(function: Callable[[], PyTree], out_axes: PyTree) -> PyTree:
    """Computes function() on each device.

    out_axes: a prefix of the result's tree: None where all devices return the same, else 0.
    """
    rows = np.zeros(jax.local_device_count(), np.float32)
    return jax.pmap(lambda _: function(), axis_name=AXIS, out_axes=out_axes)(rows)


def data_parallel(
    step: Callable[[Any, PyTree], tuple[Any, PyTree]],
    devices: Sequence[jax.Device] | None = None,  # pyright: ignore[reportInvalidTypeForm]
    state_axes: PyTree = None,
) -> Callable:
    """Returns step(state, batch) -> (state, metrics) as a `pmap` over all devices.

    The state's buffers are donated.

    Args:
        step: returns equal values on all devices: it reduces gradients with `mean`, and metrics
            with `gather` or `mean`.
        devices: devices to compile for; None for the devices of this process.
        state_axes: 0 for the parts of the state that are split over the devices, else None.
    """
    return jax.pmap(
        step,
        axis_name=AXIS,
        in_axes=(state_axes, 0),
        out_axes=(state_axes, None),
        donate_argnums=0,
        devices=devices,
    )


def map_batch(function: Callable[[PyTree, PyTree, PyTree], PyTree]) -> Callable:
    """Returns function(params, shared, batch) -> rows, with the batch sharded over all devices.

    params and shared are replicated. Each process passes its own rows of the batch and gets the
    rows of the global batch, in order, on the host.
    """
    program = map_batch_program(function)

    def run(params: PyTree, shared: PyTree, batch: PyTree) -> PyTree:
        return jax.device_get(program(params, shared, shard(batch)))

    return run


def map_batch_program(
    function: Callable[[PyTree, PyTree, PyTree], PyTree],
    devices: Sequence[jax.Device] | None = None,  # pyright: ignore[reportInvalidTypeForm]
) -> Callable:
    """Returns the `pmap` of `map_batch`: a sharded batch in, rows on the devices out.

    devices: devices to compile for; None for the devices of this process.
    """
    return jax.pmap(
        lambda params, shared, batch: gather(function(params, shared, batch)),
        axis_name=AXIS,
        in_axes=(None, None, 0),
        out_axes=None,
        devices=devices,
    )


def local_rows(batch: PyTree) -> PyTree:
    """Returns this process's rows of a global batch on the host."""

    def rows(array: np.ndarray) -> np.ndarray:
        share = len(array) // jax.process_count()
        return array[jax.process_index() * share :][:share]

    return jax.tree.map(rows, batch)


def broadcast(array: np.ndarray) -> np.ndarray:
    """Returns process 0's array in all processes, to agree on which files exist, for example."""
    if jax.process_count() == 1:
        return array
    return np.asarray(multihost_utils.broadcast_one_to_all(array))


def broadcast_flag(flag: bool) -> bool:
    """Returns process 0's flag in all processes."""
    return bool(broadcast(np.array(flag, np.int32)))


def wait_for_all(name: str) -> None:
    """Blocks until all processes have reached this call. name: of the barrier."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


@contextmanager
def entered_on_process_0(context: AbstractContextManager) -> Iterator[None]:
    """Enters the context in process 0 only. A ValueError there is raised in all processes."""
    refused = None
    with ExitStack() as stack:
        if jax.process_index() == 0:
            try:
                stack.enter_context(context)
            except ValueError as error:
                refused = error
        if broadcast(np.array(refused is not None)):
            raise refused or ValueError("Process 0 failed; its output has the reason")
        yield


def memory_per_device() -> int | None:
    """Returns the bytes of a device of this process; of a CPU, its share of the host's memory.

    None if the device does not report its memory.
    """
    device = jax.local_devices()[0]
    if device.platform == "cpu":
        host = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        return host // jax.local_device_count()
    return (device.memory_stats() or {}).get("bytes_limit")


def any_process() -> Callable[[bool], bool]:
    """Returns a function that maps this process's flag to True if any process has set its flag.

    All processes call it once a step. With several processes it returns the result of the previous
    call: the flags are reduced on the devices after the step and read one step later, so that no
    process waits.
    """
    if jax.process_count() == 1:
        return lambda flag: flag
    largest = jax.pmap(lambda flag: jax.lax.pmax(flag, AXIS), axis_name=AXIS, out_axes=None)
    before: Array | None = None

    def any_flag(flag: bool) -> bool:
        nonlocal before
        last, before = before, largest(np.full(jax.local_device_count(), flag, np.int32))
        return last is not None and bool(jax.device_get(last))

    return any_flag


def global_rows(rows: int) -> Int[Array, "rows"]:
    """Returns the global indices of this device's rows; inside `data_parallel`."""
    return jax.lax.axis_index(AXIS) * rows + jnp.arange(rows)


def mean(tree: PyTree) -> PyTree:
    """Averages over the devices; inside `data_parallel`."""
    return jax.lax.pmean(tree, AXIS)


def split(tree: PyTree) -> PyTree:
    """Returns this device's part of each array, flat and zero-padded; inside `data_parallel`."""
    devices, here = jax.lax.axis_size(AXIS), jax.lax.axis_index(AXIS)
    return jax.tree.map(lambda x: _padded_rows(jnp, x, devices)[here], tree)


def join(parts: PyTree, like: PyTree) -> PyTree:
    """Inverts `split`: gathers all parts, in the shapes of `like`; inside `data_parallel`."""
    return jax.tree.map(lambda part, whole: _unpad(stack(part), whole.shape), parts, like)


def reduce_scatter_mean(tree: PyTree) -> PyTree:
    """Computes split(mean(tree)) with a reduce-scatter; inside `data_parallel`."""
    devices = jax.lax.axis_size(AXIS)

    def of(x: Array) -> Array:
        return jax.lax.psum_scatter(_padded_rows(jnp, x, devices), AXIS) / devices

    return jax.tree.map(of, tree)


def psum(x: Array) -> Array:
    """Sums over the devices; inside `data_parallel`."""
    return jax.lax.psum(x, AXIS)


def stack(tree: PyTree) -> PyTree:
    """Stacks the arrays of all devices along a new first axis; inside `data_parallel`."""
    return jax.lax.all_gather(tree, AXIS)


def gather(tree: PyTree) -> PyTree:
    """Concatenates the rows of all devices, in order; inside `data_parallel` or `map_batch`."""
    return jax.lax.all_gather(tree, AXIS, tiled=True)


@cache
def _sharding(axis: int | None) -> jax.sharding.Sharding:
    """Returns the sharding of `pmap` outputs with this out_axes."""
    identity = jax.pmap(lambda x: x, axis_name=AXIS, out_axes=axis)
    return identity(np.zeros((jax.local_device_count(), 1), np.float32)).sharding


def _padded_rows(library: Any, x: Array | np.ndarray, devices: int) -> Array | np.ndarray:
    """Reshapes to (devices, elements per device), zero-padded at the end."""
    flat = x.reshape(-1)
    return library.pad(flat, (0, -flat.size % devices)).reshape(devices, -1)


def _unpad(rows: Array | np.ndarray, shape: tuple[int, ...]) -> Array | np.ndarray:
    return rows.reshape(-1)[: math.prod(shape)].reshape(shape)
