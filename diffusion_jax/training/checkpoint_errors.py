"""Errors of reading and writing checkpoints, in one line."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class DamagedCheckpoint(ValueError):
    """A checkpoint that is incomplete or not what was written.

    path: of the checkpoint. reason: its cause. remedy: for the user. errno: of the cause, if it is
    an OSError.
    """

    def __init__(
        self,
        path: Path,
        reason: Exception | str,
        remedy: str = "name another one, or resume the training, which sets it aside",
    ):
        self.path = path
        self.errno = getattr(reason, "errno", None)
        self.reason = _first_line(reason)
        super().__init__(f"The checkpoint {path} cannot be read ({self.reason}); {remedy}")


class SaveFailed(OSError):
    """A checkpoint that could not be written. last: the last good one, such as "of step 500"."""

    def __init__(self, path: Path, reason: Exception | str, last: str):
        super().__init__(
            f"The checkpoint {path} could not be written ({_first_line(reason)}); the last good "
            f"checkpoint is {last}. Make room there; the same command then resumes from it"
        )


@contextmanager
def writing_into(folder: Path) -> Iterator[None]:
    """Names the folder in an OSError that names no file."""
    try:
        yield
    except OSError as error:
        if error.filename is not None or error.strerror is None:
            raise
        raise OSError(f"{folder} cannot be written to: {error.strerror}") from None


def _first_line(reason: Exception | str) -> str:
    """Shortens an error to one line of at most 200 characters."""
    if os.strerror(errno.ENOSPC) in str(reason):  # at the end of several lines about the array
        return os.strerror(errno.ENOSPC)
    lines = str(reason).splitlines() or [type(reason).__name__]
    return lines[0][:200]
