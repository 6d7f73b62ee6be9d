"""Reads pickled dicts of NumPy arrays, a common format of image datasets, without unpickling.

Long byte strings are spooled to a temporary file while the pickle is parsed, so arrays may be
larger than memory.
"""

import codecs
import math
import tempfile
from collections.abc import Iterator
from io import BufferedIOBase
from pathlib import Path
from typing import Any

import numpy as np

from diffusion_jax.files.archive import length_of
from diffusion_jax.files.budget import Budget
from diffusion_jax.files.safe_pickle import Global, Machine

LONG = 2**24  # bytes; strings of at least this length are spooled to disk
AT_ONCE = 2**20  # bytes per read
MOST_LONG = 16  # of the spooled strings, each of which is an open file
MOST_SHORT = 2**26  # bytes of all others together, and of copies of them
TEXTS = (b"X", b"\x8d")  # BINUNICODE and BINUNICODE8: protocol 2 stores bytes as text


def read(
    stream: BufferedIOBase, name: str, folder: Path, length: int | None = None
) -> dict[str, Any]:
    """Reads a dict of arrays (as `PickledArray`), lists, numbers and strings.

    name: of the file, for error messages. folder: for the temporary files, which are unnamed and
    disappear with the arrays. length: of the pickle, which they cannot exceed; by default that of
    the stream. Raises ValueError if the pickle is damaged, has other content, or needs more memory
    or files than MOST_SHORT and MOST_LONG.
    """
    spooling = _Spooling(stream, folder, length_of(stream) if length is None else length)
    values = _Reader(name, spooling).run(spooling)
    # zipfile verifies the checksum of a member when it is read to the end.
    while stream.read(AT_ONCE):
        pass
    if not isinstance(values, dict):
        raise ValueError(f"{name} does not hold a dict")
    return values


class PickledArray:
    """An array in a pickle: its shape, its dtype, and its rows on demand."""

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
    """Bytes in a temporary file. text: the stream encodes each byte as a UTF-8 character."""

    def __init__(self, stream: BufferedIOBase, length: int, folder: Path, *, text: bool):
        self.file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (closed with this object)
        decoder = codecs.getincrementaldecoder("utf-8")()
        self.taken = 0
        while piece := stream.read(min(AT_ONCE, length - self.taken)):
            self.taken += len(piece)
            self.file.write(decoder.decode(piece).encode("latin1") if text else piece)
        self.length = self.file.tell()

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, part: slice) -> bytes:
        self.file.seek(part.start)
        return self.file.read(part.stop - part.start)


class _Token(bytes):
    """Placeholder for a long text that pickletools decodes to str; reports the text's length."""

    length = 0

    def __len__(self) -> int:
        return self.length


class _Spooling:
    """A stream whose long reads return `_Spooled` bytes or, for text, a `_Token` naming them."""

    def __init__(self, stream: BufferedIOBase, folder: Path, left: int):
        """left: how many bytes all long strings may have together."""
        self.stream, self.folder, self.left = stream, folder, left
        self.count = 0
        self.readline = stream.readline
        self.opcode = b""
        self.texts: dict[str, _Spooled] = {}

    def read(self, length: int) -> Any:
        if length < LONG:
            data = self.stream.read(length)
            self.opcode = data if length == 1 else self.opcode
            return data
        self.left, self.count = self.left - length, self.count + 1
        if self.left < 0 or self.count > MOST_LONG:
            raise ValueError(f"it has more than {MOST_LONG} long strings, or longer than itself")
        text = self.opcode in TEXTS
        spooled = _Spooled(self.stream, length, self.folder, text=text)
        if not text:
            return spooled
        name = f"text {len(self.texts)}"
        self.texts[name] = spooled
        token = _Token(name.encode())
        token.length = spooled.taken
        return token


class _Budget(Budget):
    """Leaves strings that are spooled to `_Spooling`."""

    def take(self, count: int) -> None:
        if count < LONG:
            super().take(count)


class _Reader(Machine):
    globals = frozenset(f"numpy{core}.multiarray _reconstruct" for core in (".core", "._core")) | {
        "numpy ndarray",
        "numpy dtype",
        "_codecs encode",
    }

    def __init__(self, name: str, stream: _Spooling):
        super().__init__(name, "a pickled dict of arrays", _Budget(MOST_SHORT))
        self.texts = stream.texts

    def call(self, function: str, arguments: tuple) -> Any:
        match function, arguments:
            case ("_codecs encode", (str(text), "latin1")):
                if text in self.texts:
                    return self.texts[text]
                self.budget.take(len(text))
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
