"""One process at a time works in a folder; others are refused."""

import errno
import fcntl
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

FILE = ".lock"
WITHOUT = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP)  # what disks without locks answer


@contextmanager
def only_one(folder: Path, doing: str) -> Iterator[None]:
    """Holds the lock of `folder`, which is made if it does not exist.

    The operating system releases the lock when the process ends, even if it is killed, and an NFS
    server when the host does not answer any more. A disk without locks refuses nobody. doing: for
    the message, such as "trained". Raises ValueError, which names process and host, if another
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
                f"it is certain that it has ended, delete {path})"
            )
        file.truncate(0)
        file.write(f"process {os.getpid()} on {platform.node()}\n")
        file.flush()
        yield


def _taken(file: TextIO) -> bool:
    """Whether this process has the lock now, or there are none."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in WITHOUT:
            raise
    return True
