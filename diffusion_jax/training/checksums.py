"""CRC-32 checksums of the files of a checkpoint.

A CRC-32 detects every flipped bit, and misses one in 2^32 of other changes.
"""

import json
import zlib
from collections.abc import Set
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

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
                raise ValueError(f"{name} is not what was written")
    return chosen


def _crc32(path: Path) -> str:
    value = 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            value = zlib.crc32(chunk, value)
    return f"{value:08x}"
