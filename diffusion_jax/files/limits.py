"""Limits on the memory and time that reading a damaged or hostile file may take.

The functions check a file's claims before they cost memory. They raise ValueError without the
name of the file, which their callers add; docs/reliability.md lists the limits.
"""

import math
import os
import reprlib
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from io import BufferedIOBase
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.lib import format as npy

TEXT_BYTES = 2**24  # of a JSON or text file; JSON values take up to 25 times as much memory
MESSAGE_LENGTH = 200  # characters quoted from another error

# Zip archives. Images, weights and statistics hardly compress, so no honest file grows much.
ZIP_GROWTH = 20  # members unpack to at most this many times the archive's length,
ZIP_ALLOWANCE = 2**28  # or to this many bytes, whichever is more
ZIP_DIRECTORY_BYTES = 2**24  # of the list of members, enough for about 200,000
DATASET_ZIP_BYTES = 2**27  # the same for images, about 1,600,000 with 0.6 kB of memory each
ZIP_IMAGE_BYTES = 2**28  # of an image in an archive
LABELS_BYTES = 2**26  # of a file with labels, about 2,000,000
LABELS_VALUES = 2**23  # in such a file, of 60 bytes of memory each
ZIP_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)

NPY_HEADER_BYTES = 10_000  # NumPy's own default; Python's parser crashes on far longer ones
NPY_READERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}

# Pickles and JSON
PICKLE_OPCODES = 2**19  # real files have below 200,000; each opcode takes up to 300 bytes
PICKLE_LINE_BYTES = 2**16
TREE_DEPTH = 64  # containers within each other
TREE_VALUES = 2**21  # a value in two places counts twice

# Tensors may share their numbers; together they are at most this many times as long as the file.
TENSOR_SHARING = 4

# Images, in pixels
IMAGE_PIXELS = 2**27
LARGE_IMAGE_PIXELS = 2**24  # from this size on, one image is decoded at a time
ENLARGED_PIXELS = 2**24  # after enlargement and before a crop, for long and narrow images


def one_line(error: Exception) -> str:
    """Returns the first line of an error's message, shortened; zipfile quotes damaged bytes."""
    line = next(iter(str(error).splitlines()), "") or type(error).__name__
    return line if len(line) <= MESSAGE_LENGTH else f"{line[:MESSAGE_LENGTH]}..."


def shortened(value: Any) -> str:
    """Returns one line about a value from a file, of at most MESSAGE_LENGTH characters."""
    formatter = reprlib.Repr()
    formatter.maxstring = formatter.maxlong = MESSAGE_LENGTH // 2
    return formatter.repr(value)[:MESSAGE_LENGTH]


def file_length(file: BufferedIOBase) -> int:
    """Returns the number of bytes in an open file, whose position is kept."""
    position = file.tell()
    length = file.seek(0, os.SEEK_END)
    file.seek(position)
    return length


def read_bytes(path: Path) -> bytes:
    """Reads a whole file of at most TEXT_BYTES."""
    with path.open("rb") as file:
        content = file.read(TEXT_BYTES + 1)
    check_text(content)
    return content


def check_text(text: str | bytes) -> None:
    """Raises ValueError for a text of more than TEXT_BYTES."""
    if len(text) > TEXT_BYTES:
        raise ValueError(f"it is longer than {TEXT_BYTES:,} bytes")


@contextmanager
def open_zip(
    file: Path | BufferedIOBase, directory_bytes: int = ZIP_DIRECTORY_BYTES
) -> Iterator[zipfile.ZipFile]:
    """Opens a zip archive, unless its list of members is too long; see also `check_members`.

    directory_bytes: most bytes of that list. Raises ValueError or zipfile.BadZipFile if it is
    damaged, OSError if it cannot be opened.
    """
    if isinstance(file, Path):
        with file.open("rb") as stream, open_zip(stream, directory_bytes) as archive:
            yield archive
        return

    def read(count: int = -1) -> bytes:
        if count > directory_bytes:
            raise zipfile.BadZipFile(f"its list of members has {count:,} bytes")
        return file.read(count)

    # zipfile reads the list of members in one piece.
    proxy = SimpleNamespace(read=read, seek=file.seek, tell=file.tell, seekable=file.seekable)
    with zipfile.ZipFile(cast(Any, proxy)) as archive:
        proxy.read = file.read
        yield archive


def check_members(members: Iterable[zipfile.ZipInfo], length: int) -> None:
    """Raises ValueError if the members of an archive of `length` bytes unpack to too many bytes.

    zipfile never unpacks a member to more bytes than its ZipInfo claims.
    """
    total = 0
    for info in members:
        if info.compress_type not in ZIP_METHODS:
            raise ValueError(
                f"{info.filename[:50]!r} is compressed with method {info.compress_type}; only "
                "stored and deflated members are read"
            )
        total += info.file_size
    most = max(ZIP_ALLOWANCE, ZIP_GROWTH * length)
    if total > most:
        raise ValueError(
            f"it unpacks to {total:,} bytes from {length:,}; at most {most:,} are read (if the "
            "file is right, write it uncompressed)"
        )


class NpyHeader(NamedTuple):
    """Shape, order of the axes, and type of an array in NumPy's .npy format."""

    shape: tuple[int, ...]
    fortran_order: bool
    dtype: np.dtype

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def read_npy_header(file: BufferedIOBase, length: int) -> NpyHeader:
    """Reads the header of an array; the file is then at the first number.

    length: bytes of header and numbers. Raises ValueError if the header is damaged, claims another
    length, or is of an array of Python objects.
    """
    try:
        version = npy.read_magic(file)
        header = NpyHeader(*NPY_READERS[version](file, max_header_size=NPY_HEADER_BYTES))
    except KeyError:
        raise ValueError(f"its version {version} of NumPy's format is unknown") from None
    except Exception as error:  # zipfile and Python's parser raise almost anything
        raise ValueError(f"its header describes no array: {one_line(error)}") from None
    left = length - file.tell()
    if header.dtype.hasobject:
        raise ValueError("Object arrays, which hold Python objects, are not read")
    if min(header.shape, default=0) < 0 or header.nbytes != left:
        claim = f"{header.nbytes:,} bytes of numbers (shape {header.shape})"
        raise ValueError(f"its header says {claim[:MESSAGE_LENGTH]}, and {left:,} follow")
    return header


def children(value: Any) -> Iterable[Any] | None:
    """Returns the values in a list, tuple, set or dict; None for anything else."""
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list | tuple | set) else None


def check_tree(value: Any, children: Callable[[Any], Iterable[Any] | None] = children) -> None:
    """Raises ValueError for values nested too deeply or in a circle, and for too many values.

    Pickles may hold one value in many places: lists of ten times the same list, thirty deep, take
    little memory, but printing or comparing them never ends.
    """
    sizes: dict[int, tuple[int, int] | None] = {}  # by id; None for containers being measured

    def measure(value: Any, depth: int) -> tuple[int, int]:
        """Returns (number of values, depth below this one)."""
        parts = children(value)
        if parts is None:
            return 1, 0
        if id(value) not in sizes and depth <= TREE_DEPTH:
            sizes[id(value)] = None
            count, height = 1, 0
            for part in parts:
                more, below = measure(part, depth + 1)
                count, height = count + more, max(height, below + 1)
                if count > TREE_VALUES:
                    raise ValueError(f"it holds more than {TREE_VALUES:,} values")
            sizes[id(value)] = count, height
        size = sizes.get(id(value), (1, 0))
        if size is None:
            raise ValueError("it holds itself")
        if depth + size[1] > TREE_DEPTH:
            raise ValueError(f"its values are nested more than {TREE_DEPTH} deep")
        return size

    measure(value, 0)


class PickleBudget:
    """Opcodes and bytes left for the pickles of one file.

    nbytes: of strings and numbers together, copies included.
    """

    def __init__(self, nbytes: int):
        self.nbytes, self.opcodes = nbytes, PICKLE_OPCODES

    def spend_opcode(self) -> None:
        """Raises ValueError if no opcode is left."""
        self.opcodes -= 1
        if self.opcodes < 0:
            raise ValueError(f"it has more than {PICKLE_OPCODES:,} instructions")

    def spend(self, count: int) -> None:
        """Raises ValueError if fewer than `count` bytes are left."""
        if not 0 <= count <= self.nbytes:
            raise ValueError(f"it takes {count - self.nbytes:,} bytes more than it may")
        self.nbytes -= count
