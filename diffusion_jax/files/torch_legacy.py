"""Reads files of `torch.save` from before PyTorch 1.6 (not zip archives), without PyTorch.

Such a file has five parts: a magic number, the version of the format, information about the
machine, the pickle that describes the tensors, and the storages, each preceded by its number of
elements. The pickles are interpreted, not unpickled; see `safe_pickle`.
"""

import math
import struct
from collections import OrderedDict
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any

import numpy as np

from diffusion_jax.files.safe_pickle import Global
from diffusion_jax.files.torch_reader import ORDERED_DICT, REBUILD_TENSOR, StateDictMachine

MAGIC, VERSION = 0x1950A86A20F9469CFC6C, 1001
TYPES = {"torch FloatStorage": "<f4", "torch LongStorage": "<i8"}


def read_state_dict(path: Path) -> dict[str, np.ndarray]:
    """The tensors by name; only float32 and int64 are supported.

    Raises ValueError if the file is damaged or has other content.
    """
    with path.open("rb") as file:
        try:
            return _Reader(path, file).read()
        except (struct.error, EOFError, OverflowError, MemoryError) as error:
            raise ValueError(f"{path} is damaged: {error}") from None


@dataclass(frozen=True)
class _Storage:
    key: str
    type: str
    count: int


@dataclass(frozen=True)
class _Tensor:
    storage: _Storage
    offset: int
    size: tuple[int, ...]


class _Reader(StateDictMachine):
    globals = frozenset({ORDERED_DICT, REBUILD_TENSOR, *TYPES})

    def __init__(self, path: Path, file: BufferedReader):
        super().__init__(str(path), "a file of tensors, saved before PyTorch 1.6")
        self.file, self.length = file, path.stat().st_size

    def read(self) -> dict[str, np.ndarray]:
        if (self.run(self.file), self.run(self.file)) != (MAGIC, VERSION):
            raise self.refused("does not start with the magic number and version")
        about = self.run(self.file)
        if not isinstance(about, dict) or about.get("little_endian") is not True:
            raise self.refused("is not little-endian")
        tensors = self.run(self.file)
        if not isinstance(tensors, dict) or not all(
            isinstance(name, str) and isinstance(tensor, _Tensor)
            for name, tensor in tensors.items()
        ):
            raise self.refused("does not contain a dict of tensors")
        storages = {tensor.storage.key: tensor.storage for tensor in tensors.values()}
        keys = self.run(self.file)
        if not isinstance(keys, list) or set(keys) != set(storages):
            raise self.refused("has other storages than its tensors refer to")
        numbers = {key: self._numbers(storages[key]) for key in keys}
        return {name: self._array(tensor, numbers) for name, tensor in tensors.items()}

    def call(self, function: str, arguments: tuple) -> Any:
        match function, arguments:
            case (name, ()) if name == ORDERED_DICT:
                return OrderedDict()
            case (name, (_Storage() as storage, int(offset), tuple(size), tuple(stride), *_)) if (
                name == REBUILD_TENSOR
                and all(type(side) is int and 0 <= side < 2**40 for side in (offset, *size))
                and len(stride) == len(size)
                and all(s == c for n, s, c in zip(size, stride, _in_c_order(size)) if n != 1)
            ):
                return _Tensor(storage, offset, size)
        raise self.refused("calls something other than a tensor in C order or an OrderedDict")

    def persistent(self, identity: Any) -> _Storage:
        match identity:
            case ("storage", Global(name=name), str(key), str(), int(count), None) if (
                name in TYPES and 0 <= count < 2**40
            ):
                return _Storage(key, name, count)
        raise self.refused("has a storage that is not of float32 or int64 numbers")

    def _numbers(self, storage: _Storage) -> np.ndarray:
        (count,) = struct.unpack("<q", self.file.read(8))
        dtype = np.dtype(TYPES[storage.type])
        if count != storage.count or count * dtype.itemsize > self.length:
            raise self.refused(f"is damaged: storage {storage.key[:20]!r} has a wrong length")
        data = self.file.read(count * dtype.itemsize)
        if len(data) != count * dtype.itemsize:
            raise self.refused("is damaged: it ends too early")
        return np.frombuffer(data, dtype)

    def _array(self, tensor: _Tensor, numbers: dict[str, np.ndarray]) -> np.ndarray:
        end = tensor.offset + math.prod(tensor.size)
        if end > tensor.storage.count:
            raise self.refused("has a tensor that reaches beyond its storage")
        return numbers[tensor.storage.key][tensor.offset : end].reshape(tensor.size)


def _in_c_order(size: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(math.prod(size[axis + 1 :]) for axis in range(len(size)))
