"""Pickled dicts of NumPy arrays, a common format of image datasets, read without unpickling.

Long byte strings are spooled to temporary files while the pickle is parsed, so arrays may be larger
than memory.
"""

import codecs
import math
import tempfile
from collections.abc import Iterator
from io import BufferedIOBase
from pathlib import Path
from typing import Any

import numpy as np

from diffusion_jax.files.limits import PickleBudget, file_length
from diffusion_jax.files.safe_pickle import Global, Machine

SPOOL_BYTES = 2**24  # strings of at least this length are spooled to disk
READ_BYTES = 2**20  # at a time
SPOOLED_STRINGS = 16  # each is an open file
MEMORY_BYTES = 2**26  # of all other strings together, copies included
TEXT_OPCODES = (b"X", b"\x8d")  # BINUNICODE, BINUNICODE8: protocol 2 stores bytes as text


def read(
    stream: BufferedIOBase, name: str, folder: Path, length: int | None = None
) -> dict[str, Any]:
    """Reads a dict of arrays (as `PickledArray`), lists, numbers and strings.

    name: of the file, for error messages. folder: for the temporary files, which are unnamed and
    disappear with the arrays. length: of the pickle; by default the rest of the stream. The
    temporary files together are not longer. Raises ValueError if the pickle is damaged, has other
    content, or exceeds MEMORY_BYTES or SPOOLED_STRINGS.
    """
    spooling = _Spooling(stream, folder, file_length(stream) if length is None else length)
    values = _Reader(name, spooling).run(spooling)
    # zipfile verifies the checksum of a member when it is read to the end.
    while stream.read(READ_BYTES):
        pass
    if not isinstance(values, dict):
        raise ValueError(f"{name} does not hold a dict")
    return values


class PickledArray:
    """Shape and dtype of an array in a pickle, and its rows on demand."""

    def __init__(self) -> None:
        self.shape: tuple[int, ...] = ()
        self.dtype = np.dtype(np.uint8)
        self.data: Any = b""

    def chunks(self, rows: int) -> Iterator[np.ndarray]:
        """Yields the array in chunks of up to `rows` rows."""
        stride = math.prod(self.shape[1:]) * self.dtype.itemsize
        for first in range(0, self.shape[0], rows):
            count = min(rows, self.shape[0] - first)
            data = self.data[first * stride : (first + count) * stride]
            yield np.frombuffer(data, self.dtype).reshape(count, *self.shape[1:])


class _Spooled:
    """Bytes in a temporary file. text: each byte is a UTF-8 character in the stream."""

    def __init__(self, stream: BufferedIOBase, length: int, folder: Path, *, text: bool):
        self.file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (closed with this object)
        decoder = codecs.getincrementaldecoder("utf-8")()
        self.taken = 0
        while piece := stream.read(min(READ_BYTES, length - self.taken)):
            self.taken += len(piece)
            self.file.write(decoder.decode(piece).encode("latin1") if text else piece)
        self.length = self.file.tell()

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, part: slice) -> bytes:
        self.file.seek(part.start)
        return self.file.read(part.stop - part.start)


class _Token(bytes):
    """Placeholder for a long text, with its length, that pickletools decodes to str."""

    length = 0

    def __len__(self) -> int:
        return self.length


class _Spooling:
    """Stream whose long reads return `_Spooled` bytes or, for text, a `_Token` with their name.

    left: bytes that all long strings may have together.
    """

    def __init__(self, stream: BufferedIOBase, folder: Path, left: int):
        self.stream, self.folder, self.left = stream, folder, left
        self.count = 0
        self.readline = stream.readline
        self.opcode = b""
        self.texts: dict[str, _Spooled] = {}

    def read(self, length: int) -> Any:
        if length < SPOOL_BYTES:
            data = self.stream.read(length)
            self.opcode = data if length == 1 else self.opcode
            return data
        self.left, self.count = self.left - length, self.count + 1
        if self.left < 0 or self.count > SPOOLED_STRINGS:
            raise ValueError(
                f"it has more than {SPOOLED_STRINGS} long strings, or they are longer than the "
                "pickle"
            )
        text = self.opcode in TEXT_OPCODES
        spooled = _Spooled(self.stream, length, self.folder, text=text)
        if not text:
            return spooled
        name = f"text {len(self.texts)}"
        self.texts[name] = spooled
        token = _Token(name.encode())
        token.length = spooled.taken
        return token


class _Budget(PickleBudget):
    """Budget without spooled strings, which `_Spooling` limits."""

    def spend(self, count: int) -> None:
        if count < SPOOL_BYTES:
            super().spend(count)


class _Reader(Machine):
    globals = frozenset(f"numpy{core}.multiarray _reconstruct" for core in (".core", "._core")) | {
        "numpy ndarray",
        "numpy dtype",
        "_codecs encode",
    }

    def __init__(self, name: str, stream: _Spooling):
        super().__init__(name, "a pickled dict of arrays", _Budget(MEMORY_BYTES))
        self.texts = stream.texts

    def call(self, function: str, arguments: tuple) -> Any:
        match function, arguments:
            case ("_codecs encode", (str(text), "latin1")):
                if text in self.texts:
                    return self.texts[text]
                self.budget.spend(len(text))
                return text.encode("latin1")
            case ("numpy dtype", (str(code), *_)):
                return self._dtype(code)
            case (name, (Global(name="numpy ndarray"), (0,), bytes())) if "_reconstruct" in name:
                return PickledArray()
        raise self.refused(f"calls {function.replace(' ', '.')} with unexpected arguments")

    def build(self, instance: Any, state: Any) -> Any:
        match instance, state:
            case (np.dtype(), tuple()):
                return instance  # the byte order; `_dtype` is little-endian
            case (PickledArray(), (1, tuple(shape), np.dtype() as dtype, False, data)) if (
                all(type(side) is int and 0 <= side < 2**40 for side in shape) and shape
            ):
                if not isinstance(data, bytes | _Spooled):
                    raise self.refused("has an array without data")
                if len(data) != math.prod(shape) * dtype.itemsize:
                    raise self.refused(
                        f"is damaged: an array of shape {shape} has data of another length"
                    )
                instance.shape, instance.dtype, instance.data = shape, dtype, data
                return instance
        raise self.refused("has an array that is not in C order, or an object of another kind")

    def _dtype(self, code: str) -> np.dtype:
        if code not in ("u1", "i4", "i8", "f4", "f8"):
            raise self.refused(f"has an array of type {code[:20]!r}")
        return np.dtype("<" + code)
