"""NumPy's .npz and .npy files, read without unpickling and written whole or not at all."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from diffusion_jax.files.atomic import replacing


def read(path: Path, *, remedy: str = "") -> dict[str, np.ndarray]:
    """The arrays of an .npz file by name, in memory.

    remedy: for files of our own, what to do about a damaged one ("delete it to make it again"); it
    ends the message. Raises FileNotFoundError if there is no file, and ValueError, in one line that
    names the file, if it is damaged, no .npz file, or holds Python objects.
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
        # Mapped first, so that a shape larger than the file is an error and takes no memory.
        found = np.load(path, mmap_mode="r", allow_pickle=False)
        if not isinstance(found, np.ndarray):
            found.close()
            raise ValueError("it is an archive of arrays, not a single array")
        return np.array(found)


def write(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes an uncompressed .npz file, see `atomic.replacing`."""
    with replacing(path) as partial, partial.open("wb") as file:
        np.savez(file, **arrays)


@contextmanager
def _one_line(path: Path, remedy: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise
    except Exception as error:  # zipfile, zlib and NumPy raise almost anything for damaged files
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        if remedy:
            raise ValueError(f"{path} is damaged: {reason}; {remedy}") from None
        raise ValueError(f"{path} is damaged, or no file of NumPy's: {reason}") from None
