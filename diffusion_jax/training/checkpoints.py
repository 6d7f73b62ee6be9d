"""Checkpoints; the only file that uses Orbax."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from jaxtyping import PyTree

from diffusion_jax import parallel
from diffusion_jax.training.checkpoint_errors import (
    DamagedCheckpoint,
    SaveFailed,
    check_metadata,
    check_ordinary,
    hush_late_callbacks,
)
from diffusion_jax.training.checksums import Digests, first_not_finite, named
from diffusion_jax.training.state import TrainState

# Parts of the state that not every run has.
OPTIONAL = ("history", "second_ema_params")
DIGESTS = "digests"
# What a checkpoint takes besides its arrays, in bytes.
OVERHEAD = 2**20


class Checkpoints:
    """The checkpoints of a run, one folder for each step: params, ema_params, opt_state, about.

    And history and second_ema_params, if the state has them. `digests` of all that is in it are
    compared whenever something is read; checkpoints of older versions have none.

    Writing is asynchronous and atomic: a folder that carries a step's number is complete. Use it as
    a context manager: leaving it waits for the last write. What cannot be written raises
    SaveFailed, what cannot be read DamagedCheckpoint. All that is written or read is finite.

    keep_latest: how many of the newest stay. keep_every: steps divisible by it stay for ever; 0
    keeps no others. Raises FileNotFoundError if the folder has to exist and does not.
    """

    def __init__(
        self,
        folder: Path,
        *,
        keep_latest: int | None = None,
        keep_every: int = 0,
        create: bool = False,
    ):
        hush_late_callbacks()
        self.folder = folder.resolve()
        if not create and not self.folder.is_dir():
            raise FileNotFoundError(f"No checkpoints in {folder.parent}: {folder} does not exist")
        if self.folder.exists() and not self.folder.is_dir():
            raise ValueError(f"{folder} is a file, and a folder was expected; move it elsewhere")
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep_latest,
            keep_period=keep_every or None,
            create=create,
            cleanup_tmp_directories=create,
            step_name_format=_Names(),
        )
        items = ("params", "ema_params", "opt_state", *OPTIONAL)
        self._manager = ocp.CheckpointManager(
            self.folder,
            options=options,
            item_handlers={name: ocp.StandardCheckpointHandler() for name in items}
            | {name: ocp.JsonCheckpointHandler() for name in ("about", DIGESTS)},
        )
        self._under_way: int | None = None

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        try:
            self.wait()
        except SaveFailed as failure:
            error = failure
            raise
        finally:
            # After a failed save closing repeats in other words what was wrong.
            with suppress(Exception) if isinstance(error, SaveFailed) else nullcontext():
                self._manager.close()

    def steps(self) -> list[int]:
        """The steps of which there is a complete checkpoint, in increasing order."""
        return sorted(self._manager.all_steps())

    def newest(self) -> int:
        """The last of `steps`. Raises FileNotFoundError if there is none."""
        if not self.steps():
            raise FileNotFoundError(f"There is no complete checkpoint in {self.folder}")
        return self.steps()[-1]

    def save(
        self,
        step: int,
        state: TrainState,
        *,
        about: dict[str, Any] | None = None,
        constant: bool = False,
    ) -> None:
        """Starts writing; the state may be donated as soon as this returns. Repeats are ignored.

        about: metadata, as JSON: the data and the position in it. constant: the state
        is of host arrays that will not change, so that none is copied. Raises FloatingPointError
        for a state that is not finite, SaveFailed if there is too little space, and what `check`
        raises for the save before.
        """
        self.wait()
        if step in self._manager.all_steps():
            return
        if constant:
            state = jax.tree.map(lambda array: array.view(_Constant), state)
        else:
            # With several processes Orbax takes host arrays, but not those that `pmap` leaves.
            state = jax.device_get(state)
        names = ("params", "ema_params", "opt_state", *OPTIONAL)
        items = {name: part for name in names if (part := getattr(state, name)) is not None}
        if spoiled := first_not_finite(items):
            raise FloatingPointError(
                f"{spoiled} is not finite after step {step}, which is not saved; the last good "
                f"checkpoint in {self.folder} is {self._last()}"
            )
        self._check_space(step, sum(array.nbytes for array in jax.tree.leaves(items)))
        arguments = {name: ocp.args.StandardSave(part) for name, part in items.items()}
        arguments["about"] = ocp.args.JsonSave(about or {})
        arguments[DIGESTS] = ocp.args.JsonSave(Digests.of(items, about or {}).to_json())
        with self._writing(step):
            self._manager.save(step, args=ocp.args.Composite(**arguments))
        self._under_way = step

    def check(self) -> None:
        """Raises SaveFailed if the last save has ended, and failed; waits for nothing."""
        if self._under_way is not None and not self._manager.is_saving_in_progress():
            self.wait()

    def wait(self) -> None:
        """Until what `save` has started is written. Raises SaveFailed if that fails."""
        step, self._under_way = self._under_way, None
        if step is not None:
            with self._writing(step):
                self._manager.wait_until_finished()

    def set_aside(self, step: int) -> Path:
        """Renames a checkpoint to STEP.damaged, in place of an older one of that name."""
        path = self.folder / str(step)
        aside = path.with_name(f"{path.name}.damaged")
        if jax.process_index() == 0:
            shutil.rmtree(aside, ignore_errors=True)
            path.rename(aside)
        parallel.wait_for_all(f"{path.name} is set aside")
        self._manager.reload()
        return aside

    def restore(self, step: int, like: TrainState) -> TrainState:
        """The state at `step`, as host arrays. like: arrays, or their shapes, in its structure.

        A history of losses that the checkpoint does not have begins empty, and a second average as
        a copy of the first.
        """
        items = {
            "params": like.params,
            "ema_params": like.ema_params,
            "opt_state": like.opt_state,
        }
        wanted = {name: getattr(like, name) for name in OPTIONAL}
        wanted = {name: part for name, part in wanted.items() if part is not None}
        there = {name for name in wanted if self._has(step, name)}
        found = self._restore(step, items | {name: wanted[name] for name in there})
        if "history" in wanted.keys() - there:
            found["history"] = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), like.history)
        if "second_ema_params" in wanted.keys() - there:
            found["second_ema_params"] = jax.tree.map(np.copy, found["ema_params"])
        return TrainState(step=np.array(step, np.int32), **found)

    def about(self, step: int) -> dict[str, Any]:
        """What `save` was told about the checkpoint; nothing if it was written without."""
        path = self.folder / str(step)
        known = self._digests(step)
        if not (path / "about").exists():
            if known is None:
                return {}
            raise DamagedCheckpoint(path, "it has no about")
        about = self._read_json(step, "about")
        if known and not known.has_about(about):
            raise DamagedCheckpoint(path, "about is not what was written")
        return about

    def restore_params(self, step: int, like: PyTree, *, ema: bool) -> PyTree:
        """The averaged or the raw parameters alone, as host arrays."""
        name = "ema_params" if ema else "params"
        return self._restore(step, {name: like})[name]

    def restore_second_average(self, step: int, like: PyTree) -> PyTree | None:
        """The second average alone, as host arrays; None if the checkpoint has none."""
        name = "second_ema_params"
        if not self._has(step, name):
            return None
        return self._restore(step, {name: like})[name]

    def _has(self, step: int, name: str) -> bool:
        """Whether the checkpoint was written with that part of the state."""
        known = self._digests(step) if step in self.steps() else None
        return (self.folder / str(step) / name).exists() or bool(known and known.shapes(name))

    def _restore(self, step: int, items: dict[str, PyTree]) -> dict[str, PyTree]:
        path = self.folder / str(step)
        if step not in self._manager.all_steps():
            there = ", ".join(map(str, self.steps())) or "none"
            raise FileNotFoundError(
                f"No checkpoint of step {step} in {self.folder}; there: {there}"
            )
        known = self._digests(step)
        with _readable(path):
            check_metadata(path / "_CHECKPOINT_METADATA")
            stored = self._manager.item_metadata(step)
        for name, like in items.items():
            if stored.get(name) is None:
                raise DamagedCheckpoint(path, f"it has no {name}")
            with _readable(path):  # the list may hold anything in the place of an array
                there = _shapes(name, stored[name])
            if known and there != known.shapes(name):
                raise DamagedCheckpoint(path, f"the list of arrays in {name} has changed")
            _check_same_shapes(path, name, stored[name], like)

        def to_target(leaf: Any) -> np.ndarray:
            return np.empty(leaf.shape, leaf.dtype)

        arguments = {
            name: ocp.args.StandardRestore(jax.tree.map(to_target, like))
            for name, like in items.items()
        }
        with _readable(path):
            restored = self._manager.restore(step, args=ocp.args.Composite(**arguments))
        found = {name: restored[name] for name in items}
        if known and (changed := known.first_changed(found)):
            raise DamagedCheckpoint(path, f"{changed} is not what was written")
        if spoiled := first_not_finite(found):
            raise DamagedCheckpoint(path, f"{spoiled} is not finite")
        return found

    def _digests(self, step: int) -> Digests | None:
        """Those of arrays and about; None for a checkpoint of an older version."""
        path = self.folder / str(step)
        with _readable(path):
            check_ordinary(path)
        if not (path / DIGESTS).exists():
            with _readable(path):
                listed = (path / "_CHECKPOINT_METADATA").read_text(errors="replace")
            if DIGESTS in listed:
                raise DamagedCheckpoint(path, f"it has no {DIGESTS}")
            return None
        found = self._read_json(step, DIGESTS)
        with _readable(path):
            return Digests.from_json(found)

    def _read_json(self, step: int, name: str) -> dict[str, Any]:
        with _readable(self.folder / str(step)):
            items = ocp.args.Composite(**{name: ocp.args.JsonRestore()})
            found = self._manager.restore(step, args=items)[name]
            if not isinstance(found, dict):
                raise ValueError(f"{name} is no JSON object")
            return found

    def _check_space(self, step: int, needed: int) -> None:
        """Raises SaveFailed if so many bytes are more than the disk has, as process 0 sees it."""
        free = shutil.disk_usage(self.folder).free
        if not parallel.from_first(np.array(free >= needed + OVERHEAD, np.int32)):
            needed = (needed + OVERHEAD) / 1e6
            reason = f"it takes up to {needed:,.1f} MB, and {free / 1e6:,.1f} MB are free"
            raise SaveFailed(self.folder / str(step), reason, self._last())

    def _last(self) -> str:
        return f"of step {self.steps()[-1]}" if self.steps() else "none"

    @contextmanager
    def _writing(self, step: int) -> Iterator[None]:
        """Turns what Orbax raises for a failed write into one clear line."""
        try:
            yield
        except Exception as error:  # tensorstore's, OSError, those of threads and event loops
            raise SaveFailed(self.folder / str(step), error, self._last()) from None


class _Step(ocp.path.step.Metadata):
    """What Orbax knows of a step from the list of folders: its time is that of the folder.

    Orbax would read the _CHECKPOINT_METADATA of all of them, and stop at one that is damaged before
    it is known which of them will be read.
    """

    @property
    def commit_timestamp(self) -> datetime:
        return datetime.fromtimestamp(self.path.stat().mtime, UTC)


class _Names(ocp.path.step.NameFormat):
    """Orbax's own names of steps, of which `find_all` reads no file."""

    def __init__(self) -> None:
        self._standard = ocp.path.step.standard_name_format()

    def build_name(self, step: int) -> str:
        return self._standard.build_name(step)

    def find_all(self, base_path: Any) -> Iterator[_Step]:
        for found in self._standard.find_all(base_path):
            yield _Step(found.step, found.path)

    def find_step(self, base_path: Any, step: int) -> ocp.path.step.Metadata:
        return self._standard.find_step(base_path, step)


class _Constant(np.ndarray):
    """An array that is its own deep copy: Orbax would copy all that it is about to write."""

    def __deepcopy__(self, memo: dict) -> "_Constant":
        return self


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turns what Orbax raises for a damaged checkpoint into one clear line."""
    try:
        yield
    except Exception as error:  # a file of wrong content makes it raise almost anything
        raise DamagedCheckpoint(path, error) from None


def _shapes(item: str, tree: PyTree) -> dict[str, tuple[int, ...]]:
    return {name: tuple(leaf.shape) for name, leaf in named({item: tree}).items()}


def _check_same_shapes(path: Path, item: str, stored: Any, like: PyTree) -> None:
    """Raises ValueError that names the first array in which checkpoint and model differ."""
    there, here = _shapes(item, stored), _shapes(item, like)
    for name in sorted(there.keys() | here.keys()):
        if there.get(name) != here.get(name):
            raise ValueError(
                f"The checkpoint {path} is of another model than the config: {name} has "
                f"shape {there.get(name, 'none')} there and {here.get(name, 'none')} here"
            )
