"""What a run goes on from if its newest checkpoint is damaged."""

import errno
import os
import time
from pathlib import Path
from typing import Any

import numpy as np

from diffusion_jax import parallel
from diffusion_jax.training.checkpoint_errors import DamagedCheckpoint
from diffusion_jax.training.checkpoints import Checkpoints
from diffusion_jax.training.state import TrainState

# Seconds before a reading. The later ones are for disks and servers that do not answer.
PAUSES = (0, 0, 1, 5, 20)
MAY_PASS = {errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN, errno.EMFILE, errno.ENFILE}
Found = tuple[TrainState, dict[str, Any]]


def restore_newest(
    checkpoints: Checkpoints, like: TrainState
) -> tuple[TrainState, dict[str, Any], list[str]]:
    """(state, `about`, lines to report) of the newest checkpoint that can be read.

    Newer ones, which are damaged, are renamed to STEP.damaged, and a line says so. What process 0
    can read decides. If none can be read, all stay as they are, and DamagedCheckpoint is raised,
    as is FileNotFoundError if there are none, and PermissionError for files that may not be read.
    """
    checkpoints.wait()
    damaged: dict[int, DamagedCheckpoint] = {}
    for step in reversed(checkpoints.steps()):
        found, error = _read(checkpoints, step, like)
        if found is not None:
            return *found, [_set_aside(checkpoints, bad, damaged[bad], step) for bad in damaged]
        damaged[step] = error or DamagedCheckpoint(checkpoints.folder / str(step), "by process 0")
    newest = damaged[checkpoints.newest()]
    count = len(damaged)
    others = f"nor can any of the {count} there" if count > 1 else "there is no other"
    raise DamagedCheckpoint(
        newest.path,
        newest.reason,
        f"{others}: restore it from a copy, or train anew in another workdir",
    )


def _read(
    checkpoints: Checkpoints, step: int, like: TrainState
) -> tuple[Found | None, DamagedCheckpoint | None]:
    """What the checkpoint holds, or why it cannot be read, twice at least."""
    path = checkpoints.folder / str(step)
    for pause in PAUSES:
        # All processes read as often as process 0 does.
        if pause and not _by_first(_refusal(path) in MAY_PASS):
            break
        time.sleep(pause)
        try:
            found, error = (checkpoints.restore(step, like), checkpoints.about(step)), None
        except DamagedCheckpoint as damage:
            found, error = None, damage
        if _by_first(error is None):
            if error:
                raise error
            return found, None
    if _by_first(_refusal(path) in (errno.EACCES, errno.EPERM)):
        raise PermissionError(
            f"The checkpoint {path} may not be read: change the permissions of its files (chmod), "
            "or delete it to go on from the one before"
        )
    return None, error


def _refusal(path: Path) -> int | None:
    """The errno with which the system refuses to read one of the files, whatever is in them."""

    def refused(error: OSError) -> None:
        raise error

    try:
        for folder, _, names in os.walk(path, onerror=refused):
            for file in (os.path.join(folder, name) for name in names):
                if os.path.isfile(file):  # a pipe or a device might have no end
                    with open(file, "rb") as stream:
                        while stream.read(2**24):
                            pass
    except OSError as error:
        return error.errno
    return None


def _by_first(answer: bool) -> bool:
    """Process 0's answer."""
    return bool(parallel.from_first(np.array(int(answer), np.int32)))


def _set_aside(checkpoints: Checkpoints, step: int, why: DamagedCheckpoint, good: int) -> str:
    aside = checkpoints.set_aside(step)
    return (
        f"The checkpoint {why.path} is damaged ({why.reason}) and was renamed to {aside.name}; "
        f"going on from that of step {good}"
    )
