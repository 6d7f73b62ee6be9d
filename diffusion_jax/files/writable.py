"""Whether something can be written at a path, found out before the work that makes it."""

import errno
import os
import tempfile
from pathlib import Path


def check(path: Path, flag: str, *, folder: bool = False) -> None:
    """Raises ValueError, in one line, if nothing can be written at `path`; leaves nothing there.

    flag: what names the path, for the message: "--out". folder: whether a folder is to be written,
    and not a file. Folders that are missing on the way are those that writing would make.
    """
    path = path.expanduser()
    try:
        if path.is_dir() and not folder:
            raise IsADirectoryError(errno.EISDIR, "it is a folder, and a file was expected")
        if path.exists() and folder and not path.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, "it is a file, and a folder was expected")
        if path.is_file() and not os.access(path, os.W_OK):
            raise PermissionError(errno.EACCES, "it is protected from writing")
        place = path.absolute()
        place = place if folder else place.parent
        while not os.path.lexists(place):
            _check_name(place)
            place = place.parent
        # What is there is not touched: a file without a name, or one that is gone at once.
        with tempfile.TemporaryFile(dir=place):
            pass
        if not folder:
            _check_name(path.absolute())
    except OSError as error:
        raise ValueError(
            f"{flag}={path} cannot be written: {error.strerror or error}; choose another place, or "
            "change its permissions (chmod)"
        ) from None


def _check_name(path: Path) -> None:
    """Raises OSError for a name that is too long for a file, or for the temporary one beside it."""
    if len(os.fsencode(path.name)) > 255 - len(f".{os.getpid()}.tmp"):
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
