"""Checkpoints; the only file that uses Orbax."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from jaxtyping import PyTree

from diffusion_jax.training.state import TrainState

# Parts of the state that not every run has.
OPTIONAL = ("history", "second_ema_params")


class Checkpoints:
    """The checkpoints of a run, one folder for each step: params, ema_params, opt_state, about.

    And history and second_ema_params, if the state has them.

    Writing is asynchronous and atomic: a folder that carries a step's number is complete. Use it as
    a context manager: leaving it waits for the last write.

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
        self.folder = folder.resolve()
        if not create and not self.folder.is_dir():
            raise FileNotFoundError(f"No checkpoints in {folder.parent}: {folder} does not exist")
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep_latest,
            keep_period=keep_every or None,
            create=create,
            cleanup_tmp_directories=create,
        )
        items = ("params", "ema_params", "opt_state", *OPTIONAL)
        self._manager = ocp.CheckpointManager(
            self.folder,
            options=options,
            item_handlers={name: ocp.StandardCheckpointHandler() for name in items}
            | {"about": ocp.JsonCheckpointHandler()},
        )

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *exception: Any) -> None:
        try:
            self._manager.wait_until_finished()
        finally:
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
        is of host arrays that will not change, so that none is copied.
        """
        if step in self._manager.all_steps():
            return
        save = ocp.args.StandardSave
        if constant:
            state = jax.tree.map(lambda array: array.view(_Constant), state)
        else:
            # With several processes Orbax takes host arrays, but not those that `pmap` leaves.
            state = jax.device_get(state)
        self._manager.save(
            step,
            args=ocp.args.Composite(
                params=save(state.params),
                ema_params=save(state.ema_params),
                opt_state=save(state.opt_state),
                about=ocp.args.JsonSave(about or {}),
                **{
                    name: save(part)
                    for name in OPTIONAL
                    if (part := getattr(state, name)) is not None
                },
            ),
        )

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
        there = {name for name in wanted if (self.folder / str(step) / name).exists()}
        found = self._restore(step, items | {name: wanted[name] for name in there})
        if "history" in wanted.keys() - there:
            found["history"] = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), like.history)
        if "second_ema_params" in wanted.keys() - there:
            found["second_ema_params"] = jax.tree.map(np.copy, found["ema_params"])
        return TrainState(step=np.array(step, np.int32), **found)

    def about(self, step: int) -> dict[str, Any]:
        """What `save` was told about the checkpoint; nothing if it was written without."""
        path = self.folder / str(step)
        if not (path / "about").exists():
            return {}
        with _readable(path):
            items = ocp.args.Composite(about=ocp.args.JsonRestore())
            return self._manager.restore(step, args=items)["about"]

    def restore_params(self, step: int, like: PyTree, *, ema: bool) -> PyTree:
        """The averaged or the raw parameters alone, as host arrays."""
        name = "ema_params" if ema else "params"
        return self._restore(step, {name: like})[name]

    def restore_second_average(self, step: int, like: PyTree) -> PyTree | None:
        """The second average alone, as host arrays; None if the checkpoint has none."""
        name = "second_ema_params"
        if not (self.folder / str(step) / name).exists():
            return None
        return self._restore(step, {name: like})[name]

    def _restore(self, step: int, items: dict[str, PyTree]) -> dict[str, PyTree]:
        path = self.folder / str(step)
        if step not in self._manager.all_steps():
            known = ", ".join(map(str, self.steps())) or "none"
            raise FileNotFoundError(
                f"No checkpoint of step {step} in {self.folder}; there: {known}"
            )
        with _readable(path):
            stored = self._manager.item_metadata(step)
        for name, like in items.items():
            if stored.get(name) is None:
                raise ValueError(_damaged(path, f"it has no {name}"))
            _check_same_shapes(path, name, stored[name], like)

        def to_target(leaf: Any) -> np.ndarray:
            return np.empty(leaf.shape, leaf.dtype)

        arguments = {
            name: ocp.args.StandardRestore(jax.tree.map(to_target, like))
            for name, like in items.items()
        }
        with _readable(path):
            restored = self._manager.restore(step, args=ocp.args.Composite(**arguments))
        return {name: restored[name] for name in items}


class _Constant(np.ndarray):
    """An array that is its own deep copy: Orbax would copy all that it is about to write."""

    def __deepcopy__(self, memo: dict) -> "_Constant":
        return self


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turns what Orbax raises for a damaged checkpoint into one clear line."""
    try:
        yield
    except (ValueError, KeyError, OSError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ValueError(_damaged(path, reason)) from None


def _damaged(path: Path, reason: str) -> str:
    return (
        f"The checkpoint {path} cannot be read ({reason[:200]}); delete that folder to go on from "
        "the one before"
    )


def _check_same_shapes(path: Path, item: str, stored: Any, like: PyTree) -> None:
    """Raises ValueError that names the first array in which checkpoint and model differ."""

    def shapes(tree: PyTree) -> dict[str, tuple[int, ...]]:
        leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
        return {_name(key): tuple(leaf.shape) for key, leaf in leaves}

    there, here = shapes(stored), shapes(like)
    for name in sorted(there.keys() | here.keys()):
        if there.get(name) != here.get(name):
            raise ValueError(
                f"The checkpoint {path} is of another model than the config: {item}/{name} has "
                f"shape {there.get(name, 'none')} there and {here.get(name, 'none')} here"
            )


def _name(key: tuple) -> str:
    parts = (getattr(k, "key", getattr(k, "idx", getattr(k, "name", None))) for k in key)
    return "/".join(str(part) for part in parts)
