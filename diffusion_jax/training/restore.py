"""Restoring the newest readable checkpoint; damaged ones are set aside."""

import errno
import time
from typing import Any

from diffusion_jax import parallel
from diffusion_jax.training.checkpoint_integrity import DamagedCheckpoint
from diffusion_jax.training.checkpoints import Checkpoints
from diffusion_jax.training.state import TrainState

# Seconds before each attempt; the longer ones are for transient errors of disks and servers.
PAUSES = (0, 0, 1, 5, 20)
TRANSIENT = {errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN, errno.EMFILE, errno.ENFILE}
Found = tuple[TrainState, dict[str, Any]]


def restore_newest(
    checkpoints: Checkpoints, like: TrainState
) -> tuple[TrainState, dict[str, Any], list[str]]:
    """Restores the newest checkpoint that process 0 can read.

    Newer ones, which are damaged, are renamed to STEP.damaged, unless none can be read.

    Args:
        checkpoints: of the run.
        like: the state, or its shapes.

    Returns: (state, metadata, one line for each damaged checkpoint).

    Raises DamagedCheckpoint if none can be read, FileNotFoundError if there is none, and
    PermissionError.
    """
    checkpoints.wait()
    damaged: dict[int, DamagedCheckpoint] = {}
    for step in reversed(checkpoints.steps()):
        found = _read(checkpoints, step, like)
        if not isinstance(found, DamagedCheckpoint):
            return *found, [_set_aside(checkpoints, bad, damaged[bad], step) for bad in damaged]
        damaged[step] = found
    newest = damaged[checkpoints.newest()]
    count = len(damaged)
    others = f"nor can any of the {count} there" if count > 1 else "there is no other"
    raise DamagedCheckpoint(
        newest.path,
        newest.reason,
        f"{others}: restore it from a copy, or train again in another workdir",
    )


def _read(checkpoints: Checkpoints, step: int, like: TrainState) -> Found | DamagedCheckpoint:
    """Reads a checkpoint, with retries; returns the error if process 0 cannot read it."""
    failure = DamagedCheckpoint(checkpoints.folder / str(step), "process 0 failed to read it")
    for attempt, pause in enumerate(PAUSES):
        # All processes read as often as process 0.
        if attempt > 1 and not parallel.broadcast_flag(failure.errno in TRANSIENT):
            break
        time.sleep(pause)
        try:
            found = checkpoints.restore(step, like), checkpoints.metadata(step)
        except DamagedCheckpoint as error:
            found, failure = None, error
        if parallel.broadcast_flag(found is not None):
            if found is None:
                raise failure
            return found
    return failure


def _set_aside(checkpoints: Checkpoints, step: int, error: DamagedCheckpoint, good: int) -> str:
    aside = checkpoints.set_aside(step)
    return (
        f"The checkpoint {error.path} is damaged ({error.reason}) and was renamed to {aside.name}; "
        f"resuming from the checkpoint of step {good}"
    )
