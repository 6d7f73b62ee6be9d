"""The pickles in both formats of `torch.save`.

The pickle of a file describes its tensors as views of storages, whose numbers follow elsewhere in
the file. It is interpreted, not unpickled, so no code from the file is ever executed; names that
dicts of tensors do not need are refused.
"""

import math
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

from diffusion_jax.files import limits
from diffusion_jax.files.limits import PickleBudget
from diffusion_jax.files.safe_pickle import Global, Machine

ORDERED_DICT = "collections OrderedDict"
REBUILD_TENSOR = "torch._utils _rebuild_tensor_v2"
REBUILD_PARAMETER = "torch._utils _rebuild_parameter"
FLOAT_STORAGE = "torch FloatStorage"

# Little-endian types by the name of their storage.
TYPES = {
    FLOAT_STORAGE: np.dtype("<f4"),
    "torch HalfStorage": np.dtype("<f2"),
    "torch BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "torch DoubleStorage": np.dtype("<f8"),
    "torch LongStorage": np.dtype("<i8"),
}

EXPECTED = "a file of tensors (of float32, float16, bfloat16, float64 or int64 numbers)"


@dataclass(frozen=True)
class Storage:
    """Numbers that tensors are views of. key: name within the file. count: length of the array."""

    key: str
    dtype: np.dtype
    count: int

    @property
    def nbytes(self) -> int:
        return self.count * self.dtype.itemsize


class TensorMachine(Machine):
    """Reader of pickles that hold dicts, lists, tuples, numbers, strings and tensors.

    length: of the file in bytes; its storages cannot be longer.
    """

    globals = frozenset({ORDERED_DICT, REBUILD_TENSOR, REBUILD_PARAMETER, *TYPES})

    def __init__(self, name: str, length: int, budget: PickleBudget):
        super().__init__(name, EXPECTED, budget)
        self.arrays: dict[Storage, np.ndarray] = {}
        self._left = length
        self._viewed = limits.TENSOR_SHARING * length

    def numbers(self, storage: Storage) -> np.ndarray:
        """Returns the numbers of a storage; called once for each."""
        raise NotImplementedError

    def stored(self, storage: Storage) -> np.ndarray:
        """Returns the numbers of a storage. Raises Refused if all are longer than the file."""
        if storage not in self.arrays:
            self._left -= storage.nbytes
            if self._left < 0:
                raise self.refused("is damaged: its storages are larger than the file")
            self.arrays[storage] = self.numbers(storage)
        return self.arrays[storage]

    def build(self, instance: Any, state: Any) -> Any:
        """Drops the modules' metadata of a state dict; PyTorch loads state dicts without it."""
        if not isinstance(instance, OrderedDict):
            raise self.refused("is damaged: its pickle has no OrderedDict where one belongs")
        return instance

    def call(self, function: str, arguments: tuple) -> Any:
        match function, arguments:
            case (name, ()) if name == ORDERED_DICT:
                return OrderedDict()
            case (name, _) if name == REBUILD_TENSOR:
                return self._tensor(arguments)
            # The ignored arguments are requires_grad and backward hooks.
            case (name, (np.ndarray() as data, _, _)) if name == REBUILD_PARAMETER:
                return data
        raise self.refused("calls something other than a tensor or an OrderedDict")

    def persistent(self, identity: Any) -> Storage:
        match identity:
            # The old format has one more entry, None unless the storage is a part of another.
            case ("storage", Global(name=name), str(key), str(), int(count), *rest) if (
                name in TYPES and 0 <= count < 2**40 and rest in ([], [None])
            ):
                return Storage(key, TYPES[name], count)
        raise self.refused("has a storage that is not described as PyTorch describes storages")

    def _tensor(self, arguments: tuple) -> np.ndarray:
        """Returns a view of the storage; offset and strides are in elements, not bytes."""
        match arguments:
            # The ignored arguments are requires_grad, backward hooks and perhaps metadata.
            case (Storage() as storage, offset, tuple(size), tuple(stride), _, _, *_) if is_view(
                offset, size, stride
            ):
                if reaches_beyond(storage.count, offset, size, stride):
                    raise self.refused("has a tensor that reaches beyond its storage")
                self._viewed -= math.prod(size) * storage.dtype.itemsize
                if self._viewed < 0:
                    raise self.refused(
                        f"has tensors of more than {limits.TENSOR_SHARING} times its length"
                    )
                return view(self.stored(storage), offset, size, stride)
        raise self.refused("has a tensor that is not described as PyTorch describes tensors")


def is_view(offset: Any, size: tuple, stride: tuple) -> bool:
    """True if the arguments describe a view of a storage; all are in elements, not bytes."""
    numbers = (offset, *size, *stride)
    same_length = len(size) == len(stride) <= 32
    return same_length and all(type(n) is int and 0 <= n < 2**40 for n in numbers)


def reaches_beyond(count: int, offset: int, size: tuple, stride: tuple) -> bool:
    """True if a view needs more than the `count` numbers of its storage."""
    last = offset + sum((n - 1) * step for n, step in zip(size, stride))
    return math.prod(size) > count or (math.prod(size) > 0 and last >= count)


def view(numbers: np.ndarray, offset: int, size: tuple, stride: tuple) -> np.ndarray:
    """Returns a view of a storage's numbers."""
    strides = [numbers.itemsize * step for step in stride]
    return np.lib.stride_tricks.as_strided(numbers[offset:], size, strides, writeable=False)
