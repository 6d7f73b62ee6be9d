"""The files of `torch.save`, read without PyTorch.

Such a file is an uncompressed zip archive: NAME/data.pkl is a pickle that names the tensors, and
NAME/data/0, 1, ... hold their numbers. Unpickling runs whatever the file says, so the pickle is
never given to `pickle`: `_Machine` walks through its opcodes, knows those that a dict of float32
tensors needs, and refuses all others by name.
"""

import math
import pickletools
import zipfile
import zlib
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

LARGEST_PICKLE = 2**26  # bytes; real ones have a few hundred thousand

ORDERED_DICT = "collections OrderedDict"
REBUILD_TENSOR = "torch._utils _rebuild_tensor_v2"
FLOAT_STORAGE = "torch FloatStorage"


def read(path: Path) -> Any:
    """What `torch.save` wrote: dicts, lists, tuples, numbers, text and float32 NumPy arrays.

    Raises ValueError if the file is damaged, or holds anything else.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return _Machine(path, archive).run()
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise ValueError(
            f"{path} is damaged, or no file of torch.save (PyTorch 1.6 or later): {error}"
        ) from None


@dataclass(frozen=True)
class _Global:
    """A name in the pickle. It stays a name: nothing is imported."""

    name: str


@dataclass(frozen=True)
class _Storage:
    key: str
    count: int


class _Mark:
    """Where on the stack the items of a tuple, list or dict begin."""


class _Machine:
    """Carries out the opcodes of data.pkl on a stack of plain values."""

    def __init__(self, path: Path, archive: zipfile.ZipFile):
        self.path, self.archive = path, archive
        pickles = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        if len(pickles) != 1 or pickles[0].count("/") != 1:
            raise ValueError(f"{path} is no file of torch.save: it has no NAME/data.pkl")
        self.root = pickles[0].removesuffix("data.pkl")
        self.members = set(archive.namelist())
        if self.root + "byteorder" in self.members:
            order = self._member("byteorder", LARGEST_PICKLE)
            if order != b"little":
                raise ValueError(f"{path} was saved with the byte order {order!r}, not little")
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.storages: dict[_Storage, bytes] = {}

    def run(self) -> Any:
        pickle = self._member("data.pkl", LARGEST_PICKLE)
        try:
            for opcode, argument, _ in pickletools.genops(pickle):
                if opcode.name == "STOP":
                    return self._pop(1)[0]
                self._do(opcode.name, argument)
        except (ValueError, UnicodeDecodeError) as error:
            if isinstance(error, _Refused):
                raise
            raise self._refused(f"is damaged: {error}") from None
        raise self._refused("is damaged: its pickle has no end")

    def _do(self, opcode: str, argument: Any) -> None:
        push = self.stack.append
        match opcode:
            case "PROTO" | "FRAME":
                pass
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                push({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[opcode])
            case "BININT" | "BININT1" | "BININT2" | "LONG1" | "BINFLOAT":
                push(argument)
            case "BINUNICODE" | "SHORT_BINUNICODE":
                push(argument)
            case "MARK":
                push(_Mark)
            case "EMPTY_TUPLE":
                push(())
            case "EMPTY_LIST":
                push([])
            case "EMPTY_DICT":
                push({})
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                push(tuple(self._pop(int(opcode[-1]))))
            case "TUPLE":
                push(tuple(self._pop_to_mark()))
            case "APPEND" | "APPENDS":
                items = self._pop(1) if opcode == "APPEND" else self._pop_to_mark()
                self._top(list).extend(items)
            case "SETITEM" | "SETITEMS":
                items = self._pop(2) if opcode == "SETITEM" else self._pop_to_mark()
                self._set_items(items)
            case "BINPUT" | "LONG_BINPUT":
                self.memo[argument] = self._top(object)
            case "MEMOIZE":
                self.memo[len(self.memo)] = self._top(object)
            case "BINGET" | "LONG_BINGET":
                if argument not in self.memo:
                    raise self._refused("is damaged: its pickle refers to what is not there")
                push(self.memo[argument])
            case "GLOBAL":
                push(self._global(argument))
            case "STACK_GLOBAL":
                module, name = self._pop(2)
                push(self._global(f"{module} {name}"))
            case "BINPERSID":
                push(self._storage(*self._pop(1)))
            case "REDUCE":
                push(self._call(*self._pop(2)))
            case "BUILD":
                # The metadata of a state dict's modules, which PyTorch itself can do without.
                self._pop(1)
                self._top(OrderedDict)
            case _:
                raise self._refused(f"uses the pickle opcode {opcode}")

    def _pop(self, count: int) -> list[Any]:
        items = self.stack[len(self.stack) - count :] if len(self.stack) >= count else []
        if len(items) < count or any(item is _Mark for item in items):
            raise self._refused("is damaged: its pickle takes more than there is")
        del self.stack[len(self.stack) - count :]
        return items

    def _pop_to_mark(self) -> list[Any]:
        for index in range(len(self.stack) - 1, -1, -1):
            if self.stack[index] is _Mark:
                items = self.stack[index + 1 :]
                del self.stack[index:]
                return items
        raise self._refused("is damaged: its pickle takes more than there is")

    def _top(self, kind: type) -> Any:
        if not self.stack or self.stack[-1] is _Mark or not isinstance(self.stack[-1], kind):
            raise self._refused(f"is damaged: its pickle has no {kind.__name__} where one belongs")
        return self.stack[-1]

    def _set_items(self, items: list[Any]) -> None:
        target = self._top(dict)
        keys, values = items[::2], items[1::2]
        if len(keys) != len(values) or not all(isinstance(key, str | int) for key in keys):
            raise self._refused("has a dict whose keys are neither text nor numbers")
        target.update(zip(keys, values))

    def _global(self, name: str) -> _Global:
        if name not in (ORDERED_DICT, REBUILD_TENSOR, FLOAT_STORAGE):
            raise self._refused(f"asks for {name.replace(' ', '.')[:200]!r}")
        return _Global(name)

    def _call(self, function: Any, arguments: Any) -> Any:
        match function, arguments:
            case _Global(name=name), () if name == ORDERED_DICT:
                return OrderedDict()
            case _Global(name=name), tuple() if name == REBUILD_TENSOR:
                return self._tensor(arguments)
        raise self._refused("calls what is no tensor and no OrderedDict")

    def _storage(self, identity: Any) -> _Storage:
        match identity:
            case ("storage", _Global(name=name), str(key), str(), int(count)) if (
                name == FLOAT_STORAGE and 0 <= count < 2**40
            ):
                return _Storage(key, count)
        raise self._refused("has a storage that is not of float32 numbers")

    def _tensor(self, arguments: tuple) -> np.ndarray:
        """A view of the storage's numbers; offset and strides count numbers, not bytes."""
        match arguments:
            case (_Storage() as storage, int(offset), tuple(size), tuple(stride), *_) if len(
                size
            ) == len(stride) <= 32 and all(
                type(n) is int and n >= 0 for n in (offset, *size, *stride)
            ):
                last = offset + sum((n - 1) * step for n, step in zip(size, stride))
                if math.prod(size) > storage.count or (math.prod(size) and last >= storage.count):
                    raise self._refused("has a tensor that reaches beyond its storage")
                numbers = np.frombuffer(self._data(storage), "<f4")[offset:]
                strides = [4 * step for step in stride]
                return np.lib.stride_tricks.as_strided(numbers, size, strides, writeable=False)
        raise self._refused("has a tensor that is not described as PyTorch does it")

    def _data(self, storage: _Storage) -> bytes:
        if storage not in self.storages:
            data = self._member(f"data/{storage.key}", 4 * storage.count)
            if len(data) != 4 * storage.count:
                raise self._refused(f"is damaged: data/{storage.key} has a wrong length")
            self.storages[storage] = data
        return self.storages[storage]

    def _member(self, name: str, largest: int) -> bytes:
        """A member of the archive; its checksum is verified."""
        if self.root + name not in self.members:
            raise self._refused(f"is damaged: {name} is missing")
        info = self.archive.getinfo(self.root + name)
        if info.compress_type != zipfile.ZIP_STORED or info.file_size > largest:
            raise self._refused(f"has a {name} that is compressed or too long, unlike torch.save's")
        return self.archive.read(info)

    def _refused(self, reason: str) -> "_Refused":
        return _Refused(f"{self.path} {reason}; a file of float32 tensors was expected")


class _Refused(ValueError):
    """Says what in the file is not as it should be."""
