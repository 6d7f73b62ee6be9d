"""Locks on folders: one process at a time works in each."""

import errno
import fcntl
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

FILE = ".lock"
UNSUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP)  # from disks without locks


@contextmanager
def only_one(folder: Path, doing: str) -> Iterator[None]:
    """Holds the lock of `folder`, which is created if it does not exist.

    The operating system releases the lock when the process ends, even if it is killed; an NFS
    server does when the host stops responding. On a disk without locks nothing is locked. doing:
    for the message, such as "trained". Raises ValueError with process and host if another process
    holds the lock.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / FILE
    with path.open("a+") as file:
        if not _taken(file):
            file.seek(0)
            holder = file.read().strip() or "another process"
            raise ValueError(
                f"{folder} is being {doing} by {holder}; wait for it, or choose another folder (if "
                f"that process is certain to have ended, delete {path})"
            )
        file.truncate(0)
        file.write(f"process {os.getpid()} on {platform.node()}\n")
        file.flush()
        yield


def _taken(file: TextIO) -> bool:
    """True if this process has the lock now, or the disk has no locks."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
    return True
