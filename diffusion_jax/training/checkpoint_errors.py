"""What is said of checkpoints that cannot be read or written, in one line."""

import errno
import functools
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from diffusion_jax.files import json_files


class DamagedCheckpoint(ValueError):
    """The checkpoint at `path` is incomplete, or not what was written. remedy: what to do."""

    def __init__(
        self,
        path: Path,
        reason: Exception | str,
        remedy: str = "name another one, or let the training go on, which sets it aside",
    ):
        self.path = path
        self.reason = _first_line(reason)
        super().__init__(f"The checkpoint {path} cannot be read ({self.reason}); {remedy}")


class SaveFailed(OSError):
    """A checkpoint could not be written; those before it are as they were. last: "of step 500"."""

    def __init__(self, path: Path, reason: Exception | str, last: str):
        super().__init__(
            f"The checkpoint {path} could not be written ({_first_line(reason)}); the last good "
            f"checkpoint is {last}. Make room there; the same command then goes on from it"
        )


def check_metadata(path: Path) -> None:
    """Raises ValueError if the file is JSON that is no object, some of which Orbax passes over.

    As it does over text that is no JSON, and over a file that is missing: they are not needed.
    """
    try:
        values = json_files.read(path)
    except (OSError, ValueError):
        return
    if not isinstance(values, dict):
        raise ValueError(f"{path.name} is no JSON object")


def check_ordinary(path: Path) -> None:
    """Raises ValueError for a pipe or a device among the files, whose reading might never end."""
    for file in path.rglob("*"):
        if file.exists() and not (file.is_file() or file.is_dir()):
            raise ValueError(f"{file.relative_to(path)} is no ordinary file")


@contextmanager
def writing_into(folder: Path) -> Iterator[None]:
    """Raises OSError that names the folder for one that does not say which file it is of."""
    try:
        yield
    except OSError as error:
        if error.filename is not None or error.strerror is None:
            raise
        raise OSError(f"{folder} cannot be written to: {error.strerror}") from None


def _first_line(reason: Exception | str) -> str:
    if os.strerror(errno.ENOSPC) in str(reason):  # at the end of several lines about the array
        return os.strerror(errno.ENOSPC)
    lines = str(reason).splitlines() or [type(reason).__name__]
    return lines[0][:200]


@functools.cache
def hush_late_callbacks() -> None:
    """Hides tracebacks of reads and writes that end after another one's failure was raised.

    TensorStore calls back into an event loop that Orbax has closed by then; Python prints each.
    """
    before = sys.unraisablehook

    def hook(unraisable: Any) -> None:
        if str(unraisable.exc_value) != "Event loop is closed":
            before(unraisable)

    sys.unraisablehook = hook
