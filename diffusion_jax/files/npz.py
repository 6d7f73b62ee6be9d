"""Reads .npz and .npy files without unpickling, and writes .npz files atomically.

Before an array takes memory its header is compared with the length of its part of the file, and all
arrays together with that of the file, see `archive`.
"""

import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.lib.format import dtype_to_descr, write_array_header_1_0

from diffusion_jax.files import archive, npy_header
from diffusion_jax.files.atomic import replacing

ZIP = b"PK"


def read(path: Path, *, remedy: str = "") -> dict[str, np.ndarray]:
    """The arrays of an .npz file by name, in memory.

    remedy: what to do about a damaged file ("delete it to make it again"), appended to the error
    message; for files that this program wrote. Raises FileNotFoundError if the file does not exist,
    PermissionError if it may not be read, and ValueError with a one-line message that names the
    file if it is damaged, not an .npz file, contains Python objects, or unpacks to more than
    `archive.check` allows.
    """
    with _one_line(path, remedy), path.open("rb") as file:
        start = file.read(len(npy_header.npy.MAGIC_PREFIX))
        if start == npy_header.npy.MAGIC_PREFIX:
            raise ValueError("it holds a single array, not an archive of arrays")
        if not start.startswith(ZIP):
            raise ValueError("it is no archive of arrays")
        with archive.opened(file) as members:
            archive.check(members.infolist(), path.stat().st_size)
            return {
                info.filename.removesuffix(".npy"): _array(members, info)
                for info in members.infolist()
            }


def _array(members: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    with members.open(info) as member:
        npy_header.read(member, info.file_size)
        member.seek(0)
        array = np.lib.format.read_array(member, allow_pickle=False)
        member.read()  # to the end, where zipfile compares the checksum
        return array


def read_array(path: Path, *, remedy: str = "") -> np.ndarray:
    """The array of an .npy file, in memory. Raises the same errors as `read`."""
    with _one_line(path, remedy):
        with path.open("rb") as file:
            if file.read(len(ZIP)) == ZIP:
                raise ValueError("it is an archive of arrays, not a single array")
        # Memory-mapped first: a shape larger than the file is then an error, and allocates nothing.
        found = np.load(path, mmap_mode="r", allow_pickle=False)
        return np.array(found)


def write(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes an uncompressed .npz file atomically."""
    with replacing(path) as partial, partial.open("wb") as file:
        np.savez(file, **arrays)


def write_blocks(path: Path, arrays: Mapping[str, tuple[int, Iterable[np.ndarray]]]) -> None:
    """Writes the file that `write` would, without ever holding a whole array in memory.

    arrays: for each name the number of rows, and blocks of them in order, at least one.
    """
    with replacing(path) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as archive:
        for name, (rows, blocks) in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                written = 0
                for block in blocks:
                    if not written:
                        whole = {
                            "descr": dtype_to_descr(block.dtype),
                            "fortran_order": False,
                            "shape": (rows, *block.shape[1:]),
                        }
                        write_array_header_1_0(member, whole)
                    member.write(np.ascontiguousarray(block).data)
                    written += len(block)
                assert written == rows, (name, written, rows)


@contextmanager
def _one_line(path: Path, remedy: str) -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, PermissionError):
        raise
    except Exception as error:  # zipfile, zlib and NumPy raise almost anything for damaged files
        reason = archive.reason(error)
        if remedy:
            raise ValueError(f"{path} is damaged: {reason}; {remedy}") from None
        raise ValueError(f"{path} is damaged, or no file of NumPy's: {reason}") from None
