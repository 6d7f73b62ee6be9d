"""Checkpoints of the train state; the only file that uses Orbax."""

import json
import shutil
from collections.abc import Iterator, Set
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from jaxtyping import PyTree

from diffusion_jax import parallel
from diffusion_jax.diffusion.types import Leaf
from diffusion_jax.files import json_files
from diffusion_jax.training.checkpoint_integrity import (
    DamagedCheckpoint,
    SaveFailed,
    check_same_shapes,
    first_not_finite,
    verify_checksums,
    write_checksums,
)
from diffusion_jax.training.state import TrainState

REQUIRED = frozenset({"params", "ema_params", "opt_state"})
OPTIONAL = frozenset({"history", "second_ema_params"})
METADATA = "metadata.json"
PARTIAL = ".partial"
# Bytes that a checkpoint takes besides its arrays.
OVERHEAD = 2**20


class Checkpoints:
    """Checkpoints of a run: one folder for each step.

    A folder holds one subfolder for each part of the state, written by Orbax, metadata.json, and
    the checksums of all these files, which are compared at every read. Process 0 writes, in a
    thread, to a folder of another name, which is renamed once it is complete. All processes have to
    call the methods that write or wait.

    As a context manager it waits for the last write on exit.

    Args:
        folder: where the checkpoints are.
        keep_latest: count of the newest checkpoints to keep; None keeps all.
        keep_every: steps divisible by it are always kept.
        create: creates the folder, and deletes unfinished writes in it.

    Raises FileNotFoundError if the folder does not exist, and ValueError if it is a file or a count
    is out of range.
    """

    def __init__(
        self,
        folder: Path,
        *,
        keep_latest: int | None = None,
        keep_every: int | None = None,
        create: bool = False,
    ):
        if keep_latest is not None and keep_latest < 1:
            raise ValueError(f"keep_latest={keep_latest} must be at least 1")
        if keep_every is not None and keep_every < 1:
            raise ValueError(f"keep_every={keep_every} must be at least 1")
        self.folder = folder.resolve()
        self._keep_latest = keep_latest
        self._keep_every = keep_every
        if self.folder.exists() and not self.folder.is_dir():
            raise ValueError(f"{folder} is a file, and a folder was expected; move it elsewhere")
        if create and jax.process_index() == 0:
            self.folder.mkdir(parents=True, exist_ok=True)
            for path in self.folder.glob(f"*{PARTIAL}*"):
                shutil.rmtree(path)
        elif not create and not self.folder.is_dir():
            raise FileNotFoundError(f"No checkpoints in {folder.parent}: {folder} does not exist")
        self._orbax = _make_orbax()
        self._thread = ThreadPoolExecutor(max_workers=1)
        self._write: tuple[int, Future] | None = None

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *exception: Any) -> None:
        try:
            self._join()
        finally:
            self._thread.shutdown()
            self._orbax.close()

    def steps(self) -> list[int]:
        """Lists the steps of the complete checkpoints, in increasing order."""
        if not self.folder.is_dir():
            return []
        paths = [path for path in self.folder.iterdir() if path.name.isdecimal()]
        return sorted(int(path.name) for path in paths if path.is_dir())

    def newest(self) -> int:
        """Returns the last of `steps`. Raises FileNotFoundError if there is none."""
        if not self.steps():
            raise FileNotFoundError(f"There is no complete checkpoint in {self.folder}")
        return self.steps()[-1]

    def save(self, step: int, state: TrainState, *, metadata: dict[str, Any] | None = None) -> None:
        """Starts writing a checkpoint, unless there is one of this step.

        The buffers of device arrays may be donated as soon as this returns. NumPy arrays are not
        copied and must not change until the checkpoint is written.

        metadata: values for JSON, such as the position in the data. Raises FloatingPointError for a
        state that is not finite, and SaveFailed if there is too little space or the write before
        this one has failed.
        """
        self.wait()
        if parallel.broadcast_flag(step in self.steps()):
            return
        names = [name for name in sorted(REQUIRED | OPTIONAL) if getattr(state, name) is not None]
        parts = {name: jax.device_get(getattr(state, name)) for name in names}
        if bad := first_not_finite(parts):
            raise FloatingPointError(
                f"{bad} is not finite after step {step}, which is not saved; the last good "
                f"checkpoint in {self.folder} is {self._last()}"
            )
        self._check_space(step, sum(array.nbytes for array in jax.tree.leaves(parts)))
        if jax.process_index() == 0:
            # On a CPU the host arrays of JAX's may share their memory.
            copy = {
                name: jax.tree.map(_copy_of, getattr(state, name), parts[name]) for name in names
            }
            write = self._thread.submit(self._write_folder, step, copy, metadata or {})
            self._write = step, write

    def check(self) -> None:
        """Raises SaveFailed if the last write has ended with an error. Does not block."""
        if self._write is not None and self._write[1].done():
            self._join()

    def wait(self) -> None:
        """Waits until the last checkpoint is written. Raises SaveFailed if that fails."""
        self._join()
        parallel.wait_for_all("the checkpoint is written")

    def set_aside(self, step: int) -> Path:
        """Renames a checkpoint to STEP.damaged, in place of an older one of that name."""
        path = self.folder / str(step)
        aside = path.with_name(f"{path.name}.damaged")
        if jax.process_index() == 0:
            shutil.rmtree(aside, ignore_errors=True)
            path.rename(aside)
        parallel.wait_for_all(f"{path.name} is set aside")
        return aside

    def restore(self, step: int, like: TrainState) -> TrainState:
        """Reads the state at `step` into host arrays. like: arrays or shapes, in its structure.

        If the checkpoint lacks a loss history, it starts empty; if it lacks a second EMA, that
        starts as a copy of the first.

        Raises DamagedCheckpoint, PermissionError, FileNotFoundError if there is no such checkpoint,
        and ValueError if it is of another model.
        """
        wanted = {name: getattr(like, name) for name in REQUIRED | OPTIONAL}
        wanted = {name: part for name, part in wanted.items() if part is not None}
        found = self._restore(step, wanted, OPTIONAL)
        if "history" in wanted.keys() - found.keys():
            found["history"] = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), like.history)
        if "second_ema_params" in wanted.keys() - found.keys():
            found["second_ema_params"] = jax.tree.map(np.copy, found["ema_params"])
        return TrainState(step=np.array(step, np.int32), **found)

    def restore_params(self, step: int, like: PyTree, *, ema: bool) -> PyTree:
        """Reads the EMA or the raw parameters alone, see `restore`."""
        name = "ema_params" if ema else "params"
        return self._restore(step, {name: like})[name]

    def restore_second_ema(self, step: int, like: PyTree) -> PyTree | None:
        """Reads the second EMA alone, see `restore`; None if the checkpoint has none."""
        name = "second_ema_params"
        return self._restore(step, {name: like}, {name}).get(name)

    def metadata(self, step: int) -> dict[str, Any]:
        """Reads the metadata that `save` got. Raises DamagedCheckpoint."""
        self._verify(step)
        with self._reading(step) as path:
            return json_files.read(path / METADATA)

    def _restore(
        self, step: int, like: dict[str, PyTree], optional: Set[str] = frozenset()
    ) -> dict[str, PyTree]:
        """Reads parts of a checkpoint, without optional ones that it does not have."""
        found = {}
        for name in self._verify(step, like.keys() - optional, like.keys() & optional):
            with self._reading(step) as path:
                stored = self._orbax.metadata(path / name).item_metadata.tree
            check_same_shapes(path, name, stored, like[name])
            as_numpy = jax.tree.map(
                lambda x: ocp.RestoreArgs(restore_type=np.ndarray, dtype=x.dtype), like[name]
            )
            arguments = ocp.args.PyTreeRestore(item=like[name], restore_args=as_numpy)
            with self._reading(step):
                found[name] = self._orbax.restore(path / name, args=arguments)
        return found

    def _verify(
        self, step: int, parts: Set[str] = frozenset(), optional: Set[str] = frozenset()
    ) -> Set[str]:
        """Compares checksums, see `verify_checksums`."""
        if step not in self.steps():
            known = ", ".join(map(str, self.steps())) or "none"
            raise FileNotFoundError(
                f"No checkpoint of step {step} in {self.folder}; there: {known}"
            )
        with self._reading(step) as path:
            return verify_checksums(path, parts, optional)

    @contextmanager
    def _reading(self, step: int) -> Iterator[Path]:
        """Yields the folder of a checkpoint; errors within become one clear line."""
        path = self.folder / str(step)
        try:
            yield path
        except PermissionError:
            raise PermissionError(
                f"The checkpoint {path} may not be read: change the permissions of its files "
                "(chmod), or delete it to resume from the one before"
            ) from None
        except Exception as error:  # Orbax raises many kinds
            raise DamagedCheckpoint(path, error) from None

    def _write_folder(self, step: int, parts: dict[str, PyTree], metadata: dict[str, Any]) -> None:
        partial = self.folder / f"{step}{PARTIAL}"
        partial.mkdir()
        for name, part in parts.items():
            self._orbax.save(partial / name, args=ocp.args.PyTreeSave(part))
        (partial / METADATA).write_text(json.dumps(metadata) + "\n")
        write_checksums(partial)
        partial.rename(self.folder / str(step))
        self._delete_old()

    def _delete_old(self) -> None:
        if self._keep_latest is None:
            return
        for step in self.steps()[: -self._keep_latest]:
            if self._keep_every is None or step % self._keep_every:
                path = self.folder / f"{step}{PARTIAL}"
                (self.folder / str(step)).rename(path)
                shutil.rmtree(path)

    def _join(self) -> None:
        write, self._write = self._write, None
        if write is not None:
            step, future = write
            try:
                future.result()
            except Exception as error:  # TensorStore's and OSError
                raise SaveFailed(self.folder / str(step), error, self._last()) from None

    def _check_space(self, step: int, size: int) -> None:
        """Raises SaveFailed if the disk of process 0 has less than `size` bytes free."""
        free = shutil.disk_usage(self.folder).free
        if not parallel.broadcast_flag(free >= size + OVERHEAD):
            needed = (size + OVERHEAD) / 1e6
            reason = f"it takes up to {needed:,.1f} MB, and {free / 1e6:,.1f} MB are free"
            raise SaveFailed(self.folder / str(step), reason, self._last())

    def _last(self) -> str:
        return f"of step {self.steps()[-1]}" if self.steps() else "none"


def _make_orbax() -> ocp.Checkpointer:
    """Makes a synchronous checkpointer of this process alone, for trees of NumPy arrays."""
    here = jax.process_index()
    alone = ocp.options.MultiprocessingOptions(primary_host=here, active_processes={here})
    handlers = ocp.type_handlers.create_type_handler_registry(
        (np.ndarray, ocp.type_handlers.NumpyHandler(deepcopy_host_arrays=False)),
        (jax.Array, ocp.type_handlers.ArrayHandler()),
    )
    handler = ocp.PyTreeCheckpointHandler(
        type_handler_registry=handlers, multiprocessing_options=alone
    )
    return ocp.Checkpointer(handler, multiprocessing_options=alone)


def _copy_of(array: Leaf, on_host: np.ndarray) -> np.ndarray:
    return array if isinstance(array, np.ndarray) else np.array(on_host)
