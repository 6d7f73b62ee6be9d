"""The header of an .npy array, read from a stream and compared with the bytes that follow it."""

import math
import zipfile
import zlib
from dataclasses import dataclass
from io import BufferedIOBase

import numpy as np
from numpy.lib import format as npy

from diffusion_jax.files import archive

READERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
LONGEST = 10_000  # bytes; numpy's own limit, above which parsing could crash Python
MOST_SIDE = 2**48


@dataclass(frozen=True)
class Header:
    """What a header says. fortran: whether the first axis, not the last, is contiguous."""

    shape: tuple[int, ...]
    dtype: np.dtype
    fortran: bool

    @property
    def nbytes(self) -> int:
        """Of the array's numbers."""
        return math.prod(self.shape) * self.dtype.itemsize


def read(stream: BufferedIOBase, length: int | None = None) -> Header:
    """The header; the stream is then at the first number.

    length: bytes of header and numbers together, where known; the header must say the same, so that
    no memory is taken for numbers that do not follow. Raises ValueError, without a name of the
    file, if the header is damaged, is of Python objects, or of another length.
    """
    try:
        version = npy.read_magic(stream)
        shape, fortran, dtype = READERS[version](stream, max_header_size=LONGEST)
    except KeyError:
        raise ValueError(f"its version {version} of NumPy's format is unknown") from None
    # Python's parser raises almost anything, MemoryError for brackets within brackets, say.
    except (zipfile.BadZipFile, zlib.error, EOFError):
        raise
    except Exception as error:
        raise ValueError(f"its header describes no array: {archive.reason(error)}") from None
    if dtype.hasobject:
        raise ValueError("Object arrays, which hold Python objects, are not read")
    if not all(0 <= side < MOST_SIDE for side in shape) or len(shape) > 32:
        raise ValueError("its header has a shape that no array has")
    header = Header(shape, dtype, fortran)
    if length is not None and header.nbytes != length - stream.tell():
        raise ValueError(
            f"its header says {header.nbytes:,} bytes of numbers (shape {shape}), and "
            f"{length - stream.tell():,} follow"
        )
    return header
