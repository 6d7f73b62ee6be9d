"""Reads files of `torch.save` without PyTorch.

Such a file is an uncompressed zip archive: NAME/data.pkl is a pickle that describes the tensors,
and NAME/data/0, 1, ... contain their data. The pickle is interpreted, not unpickled, so no code
from the file is ever executed; names that a dict of float32 tensors does not need are refused.
"""

import math
import struct
import zipfile
import zlib
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from diffusion_jax.files.safe_pickle import Global, Machine, Refused

LARGEST_PICKLE = 2**22  # bytes; those of real models are a few hundred thousand

# What zipfile raises for damaged files and files that are not zip archives.
DAMAGE = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, ValueError, OSError)
DAMAGE += (OverflowError, NotImplementedError, RuntimeError)

ORDERED_DICT = "collections OrderedDict"
REBUILD_TENSOR = "torch._utils _rebuild_tensor_v2"
FLOAT_STORAGE = "torch FloatStorage"


def read(path: Path) -> Any:
    """The saved dicts, lists, tuples, numbers and strings; float32 tensors as NumPy arrays.

    Raises ValueError if the file is damaged or has other content.
    """
    with path.open("rb") as file:
        try:
            with zipfile.ZipFile(file) as archive:
                return _Reader(path, archive).read()
        except Refused:
            raise
        except DAMAGE as error:
            raise ValueError(
                f"{path} is damaged, or not a file of torch.save (PyTorch 1.6 or later): {error}"
            ) from None


@dataclass(frozen=True)
class _Storage:
    key: str
    count: int


class StateDictMachine(Machine):
    """What the pickles of both PyTorch formats have in common."""

    def build(self, instance: Any, state: Any) -> Any:
        """Drops the modules' metadata of a state dict; PyTorch loads state dicts without it."""
        if not isinstance(instance, OrderedDict):
            raise self.refused("is damaged: its pickle has no OrderedDict where one belongs")
        return instance


class _Reader(StateDictMachine):
    globals = frozenset({ORDERED_DICT, REBUILD_TENSOR, FLOAT_STORAGE})

    def __init__(self, path: Path, archive: zipfile.ZipFile):
        super().__init__(str(path), "a file of float32 tensors")
        self.archive = archive
        self.members = set(archive.namelist())
        self.numbers: dict[_Storage, np.ndarray] = {}
        if sum(info.file_size for info in archive.infolist()) > path.stat().st_size:
            raise self.refused("is damaged: its parts are longer than the whole")
        pickles = [name for name in self.members if name.endswith("/data.pkl")]
        if len(pickles) != 1 or pickles[0].count("/") != 1:
            raise self.refused("is not a file of torch.save: it has no NAME/data.pkl")
        self.root = pickles[0].removesuffix("data.pkl")
        if self.root + "byteorder" in self.members:
            order = self._member("byteorder", LARGEST_PICKLE)
            if order != b"little":
                raise self.refused(f"was saved with the byte order {order[:20]!r}, not little")

    def read(self) -> Any:
        return self.run(self._member("data.pkl", LARGEST_PICKLE))

    def call(self, function: str, arguments: tuple) -> Any:
        match function, arguments:
            case (name, ()) if name == ORDERED_DICT:
                return OrderedDict()
            case (name, _) if name == REBUILD_TENSOR:
                return self._tensor(arguments)
        raise self.refused("calls something other than a tensor or an OrderedDict")

    def persistent(self, identity: Any) -> _Storage:
        match identity:
            case ("storage", Global(name=name), str(key), str(), int(count)) if (
                name == FLOAT_STORAGE and 0 <= count < 2**40
            ):
                return _Storage(key, count)
        raise self.refused("has a storage that is not of float32 numbers")

    def _tensor(self, arguments: tuple) -> np.ndarray:
        """A view of the storage; offset and strides are in elements, not bytes."""
        match arguments:
            # The last two are requires_grad and backward hooks.
            case (_Storage() as storage, int(offset), tuple(size), tuple(stride), _, _) if len(
                size
            ) == len(stride) <= 32 and all(
                type(n) is int and 0 <= n < 2**40 for n in (offset, *size, *stride)
            ):
                last = offset + sum((n - 1) * step for n, step in zip(size, stride))
                if math.prod(size) > storage.count or (math.prod(size) and last >= storage.count):
                    raise self.refused("has a tensor that reaches beyond its storage")
                numbers = self._numbers(storage)[offset:]
                strides = [4 * step for step in stride]
                return np.lib.stride_tricks.as_strided(numbers, size, strides, writeable=False)
        raise self.refused("has a tensor that is not described as PyTorch describes tensors")

    def _numbers(self, storage: _Storage) -> np.ndarray:
        if storage not in self.numbers:
            data = self._member(f"data/{storage.key}", 4 * storage.count)
            if len(data) != 4 * storage.count:
                raise self.refused(f"is damaged: data/{storage.key[:20]} has a wrong length")
            self.numbers[storage] = np.frombuffer(data, "<f4")
        return self.numbers[storage]

    def _member(self, name: str, largest: int) -> bytes:
        """The bytes of an archive member, with its checksum verified."""
        if self.root + name not in self.members:
            raise self.refused(f"is damaged: {name[:50]!r} is missing")
        info = self.archive.getinfo(self.root + name)
        if info.compress_type != zipfile.ZIP_STORED or info.file_size > largest:
            raise self.refused(f"has a {name[:50]!r} that is compressed or too long")
        return self.archive.read(info)
