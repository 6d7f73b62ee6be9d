"""Integrity of checkpoints: checksums, finite values, shapes, and errors in one line.

A CRC-32 detects every flipped bit, and misses one in 2^32 of other changes.
"""

import errno
import json
import os
import zlib
from collections.abc import Iterator, Set
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from diffusion_jax.files import json_files

FILE = "checksums.json"
CHUNK = 2**24  # bytes


def write_checksums(folder: Path) -> None:
    """Writes checksums.json: the CRC-32 of every other file in the folder, by relative path."""
    names = [path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.is_file()]
    with ThreadPoolExecutor() as pool:
        sums = pool.map(_crc32, (folder / name for name in names))
        found = {name.as_posix(): value for name, value in zip(names, sums)}
    (folder / FILE).write_text(json.dumps(found, indent=1) + "\n")


def verify_checksums(folder: Path, parts: Set[str], optional: Set[str]) -> Set[str]:
    """Compares the files at the top of the folder and in some of its subfolders.

    Args:
        folder: where `write_checksums` was called.
        parts: names of the subfolders to compare.
        optional: names of more of them, which may not have been written.

    Returns: parts, with the optional ones that were written.

    Raises ValueError that names a missing or changed file, and OSError if one cannot be read.
    """
    if not (folder / FILE).is_file():
        raise ValueError(f"it has no {FILE}")
    expected = json_files.read(folder / FILE)
    if not isinstance(expected, dict):
        raise ValueError(f"{FILE} is not a JSON object")
    written = {name.partition("/")[0] for name in expected if "/" in name}
    if missing := parts - written:
        raise ValueError(f"it has no {min(missing)}")
    chosen = parts | (optional & written)
    needed = [name for name in expected if "/" not in name or name.partition("/")[0] in chosen]
    for path in (folder / name for name in needed):
        if not path.exists():
            raise ValueError(f"it has no {path.relative_to(folder)}")
        if not path.is_file():  # a pipe or a device might never end
            raise ValueError(f"{path.relative_to(folder)} is not an ordinary file")
    with ThreadPoolExecutor() as pool:
        for name, found in zip(needed, pool.map(_crc32, (folder / name for name in needed))):
            if found != expected[name]:
                raise ValueError(f"{name} does not match its checksum")
    return chosen


def _crc32(path: Path) -> str:
    value = 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            value = zlib.crc32(chunk, value)
    return f"{value:08x}"


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


def first_not_finite(parts: dict[str, PyTree]) -> str | None:
    """Returns the name of an array with a value that is not finite; None if there is none."""
    arrays = _named(parts)
    with ThreadPoolExecutor() as pool:
        finite = pool.map(lambda array: bool(np.all(np.isfinite(array))), arrays.values())
        return next((name for name, good in zip(arrays, finite) if not good), None)


def check_same_shapes(path: Path, part: str, stored: PyTree, like: PyTree) -> None:
    """Raises ValueError that names the first array in which checkpoint and model differ."""
    there, here = (
        {name: tuple(leaf.shape) for name, leaf in _named({part: tree}).items()}
        for tree in (stored, like)
    )
    for name in sorted(there.keys() | here.keys()):
        if there.get(name) != here.get(name):
            raise ValueError(
                f"The checkpoint {path} is of another model than the config: {name} has "
                f"shape {there.get(name, 'none')} there and {here.get(name, 'none')} here"
            )


def _named(parts: dict[str, PyTree]) -> dict[str, Any]:
    """Returns all leaves by name, such as "params/stem/kernel"."""
    return {
        "/".join([part, *map(_key, path)]): leaf
        for part, tree in parts.items()
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def _key(entry: Any) -> str:
    return str(getattr(entry, "key", getattr(entry, "idx", getattr(entry, "name", None))))
