"""NumPy's .npz and .npy files, read without unpickling and within `limits`, written atomically."""

import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.lib.format import MAGIC_PREFIX, dtype_to_descr, write_array_header_1_0

from diffusion_jax.files import limits
from diffusion_jax.files.atomic import replacing

ZIP = b"PK"


def read(path: Path, *, remedy: str = "") -> dict[str, np.ndarray]:
    """Reads the arrays of an .npz file by name.

    remedy: the fix for a damaged file that this program wrote ("delete it to make it again"),
    appended to the error message. Raises FileNotFoundError if the file does not exist,
    PermissionError if it may not be read, and ValueError with a one-line message that names the
    file if it is damaged, not an .npz file, contains Python objects, or exceeds the limits.
    """
    with _one_line(path, remedy), path.open("rb") as file:
        start = file.read(len(MAGIC_PREFIX))
        if start == MAGIC_PREFIX:
            raise ValueError("it holds a single array, not an archive of arrays")
        if not start.startswith(ZIP):
            raise ValueError("it is not an archive of arrays")
        with limits.open_zip(file) as members:
            limits.check_members(members.infolist(), path.stat().st_size)
            return {
                info.filename.removesuffix(".npy"): _array(members, info)
                for info in members.infolist()
            }


def _array(members: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    with cast(zipfile.ZipExtFile, members.open(info)) as member:
        limits.read_npy_header(member, info.file_size)
        member.seek(0)
        array = np.lib.format.read_array(member, allow_pickle=False)
        member.read()  # zipfile verifies the checksum at the end
        return array


def read_array(path: Path, *, remedy: str = "") -> np.ndarray:
    """Reads the array of an .npy file. Raises the same errors as `read`."""
    with _one_line(path, remedy):
        with path.open("rb") as file:
            if file.read(len(ZIP)) == ZIP:
                raise ValueError("it is an archive of arrays, not a single array")
        # Memory-mapped first, so that a shape larger than the file is an error before it allocates.
        return np.array(np.load(path, mmap_mode="r", allow_pickle=False))


def write(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes an uncompressed .npz file atomically."""
    with replacing(path) as partial, partial.open("wb") as file:
        np.savez(file, **cast(Any, arrays))


def write_blocks(path: Path, arrays: Mapping[str, tuple[int, Iterable[np.ndarray]]]) -> None:
    """Writes an uncompressed .npz file atomically, without holding a whole array in memory.

    arrays: for each name the number of rows, and one or more blocks of rows in order.
    """
    with replacing(path) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as archive:
        for name, (rows, blocks) in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                written = 0
                for block in blocks:
                    if not written:
                        header = {
                            "descr": dtype_to_descr(block.dtype),
                            "fortran_order": False,
                            "shape": (rows, *block.shape[1:]),
                        }
                        write_array_header_1_0(member, header)
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
        reason = limits.one_line(error)
        if remedy:
            raise ValueError(f"{path} is damaged: {reason}; {remedy}") from None
        raise ValueError(f"{path} is damaged, or not a NumPy file: {reason}") from None
