"""Checks of write access, made before any work."""

import errno
import os
import tempfile
from pathlib import Path

from diffusion_jax.files.paths import local_path

REMEDIES = {
    errno.EACCES: "choose another place, or change its permissions (chmod)",
    errno.EPERM: "choose another place, or change its permissions (chmod)",
    errno.EROFS: "choose another place: that disk can only be read",
    errno.ENOSPC: "choose another place, or make room there",
    errno.EDQUOT: "choose another place, or make room there",
    errno.ENOENT: "choose another place: no folder can be made there",
    errno.ENOTDIR: "choose another place: a part of the path is a file",
    errno.EISDIR: "choose another place, such as a file in that folder",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ELOOP: "choose another place: its links form a circle",
}


def check(path: Path, flag: str, *, folder: bool = False) -> None:
    """Raises a one-line ValueError if `path` cannot be written; leaves nothing there.

    Missing parent folders are allowed, since writing creates them. flag: the flag that names the
    path, such as "--out". folder: True if the output is a folder, False if it is a file.
    """
    path = local_path(path)
    try:
        if path.is_dir() and not folder:
            raise IsADirectoryError(errno.EISDIR, "it is a folder, and a file was expected")
        if path.exists() and folder and not path.is_dir():
            raise FileExistsError(errno.EEXIST, "it is a file, and a folder was expected")
        if path.is_file() and not os.access(path, os.W_OK):
            raise PermissionError(errno.EACCES, "it is protected from writing")
        place = path.absolute()
        place = place if folder else place.parent
        while not os.path.lexists(place):
            _check_name(place)
            place = place.parent
        # A file without a name, or deleted at once: existing files are not touched.
        with tempfile.TemporaryFile(dir=place):
            pass
        if not folder:
            _check_name(path.absolute())
            # A link to a file that does not exist yet needs the folder of its target.
            if path.is_symlink() and not os.path.isdir(os.path.dirname(os.path.realpath(path))):
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    except OSError as error:
        raise ValueError(
            f"{flag}={path} cannot be written: {error.strerror or error}; {_remedy(error, path)}"
        ) from None


def _remedy(error: OSError, path: Path) -> str:
    """Returns the fix for an error."""
    links = (part for part in (path, *path.parents) if part.is_symlink() and not part.exists())
    if error.errno == errno.ENOENT and (link := next(links, None)):
        return f"choose another place, or make the folder that the link {link} leads to"
    return REMEDIES.get(error.errno or 0, "choose another place")


def _check_name(path: Path) -> None:
    """Raises OSError for a name that is too long for a file or for its temporary file."""
    if len(os.fsencode(path.name)) > 255 - len(f".{os.getpid()}.tmp"):
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
