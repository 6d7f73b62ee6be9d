"""Reads .npz and .npy files without unpickling, and writes .npz files atomically."""

import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.lib.format import dtype_to_descr, write_array_header_1_0

from diffusion_jax.files.atomic import replacing


def read(path: Path, *, remedy: str = "") -> dict[str, np.ndarray]:
    """The arrays of an .npz file by name, in memory.

    remedy: what to do about a damaged file ("delete it to make it again"), appended to the error
    message; for files that this program wrote. Raises FileNotFoundError if the file does not exist,
    PermissionError if it may not be read, and ValueError with a one-line message that names the
    file if it is damaged, not an .npz file, or contains Python objects.
    """
    with _one_line(path, remedy):
        found = np.load(path, allow_pickle=False)
        if isinstance(found, np.ndarray):
            raise ValueError("it holds a single array, not an archive of arrays")
        with found:
            return {name: found[name] for name in found.files}


def read_array(path: Path, *, remedy: str = "") -> np.ndarray:
    """The array of an .npy file, in memory. Raises the same errors as `read`."""
    with _one_line(path, remedy):
        # Memory-mapped first: a shape larger than the file is then an error, and allocates nothing.
        found = np.load(path, mmap_mode="r", allow_pickle=False)
        if not isinstance(found, np.ndarray):
            found.close()
            raise ValueError("it is an archive of arrays, not a single array")
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
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        if remedy:
            raise ValueError(f"{path} is damaged: {reason}; {remedy}") from None
        raise ValueError(f"{path} is damaged, or no file of NumPy's: {reason}") from None
