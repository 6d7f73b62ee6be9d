"""Networks that NVIDIA's programs pickled with their source text, read without running it.

EDM and EDM2 save {"ema": network, ...} with `torch_utils.persistence`: each module is a call of
`_reconstruct_persistent_obj` with its source text, class name and attributes. The names of classes
and functions are looked up in tables here; nothing is imported, and the source text is not used.
"""

import io
import math
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from diffusion_jax.files import limits, torch_legacy
from diffusion_jax.files.limits import PickleBudget
from diffusion_jax.files.safe_pickle import Machine
from diffusion_jax.files.torch_pickle import (
    ORDERED_DICT,
    REBUILD_PARAMETER,
    REBUILD_TENSOR,
    is_view,
    reaches_beyond,
    view,
)

PERSISTENT = "torch_utils.persistence _reconstruct_persistent_obj"
EASY_DICT = "dnnlib.util EasyDict"
LOAD_STORAGE = "torch.storage _load_from_bytes"
MODULE_DICT = "torch.nn.modules.container ModuleDict"
MODULE_LIST = "torch.nn.modules.container ModuleList"
DTYPE = "numpy dtype"
SCALARS = ("numpy.core.multiarray scalar", "numpy._core.multiarray scalar")
SETS = ("builtins set", "__builtin__ set")

MODULE_DEPTH = 20  # modules within modules


@dataclass
class Object:
    """Class name and attributes of a pickled object."""

    name: str
    attributes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Module:
    """Keyword arguments of a network's constructor, and its tensors by dotted name."""

    arguments: dict[str, Any]
    tensors: dict[str, np.ndarray]


def read(path: Path, class_name: str) -> Module:
    """Reads the network under "ema".

    Raises FileNotFoundError if there is no such file, and ValueError if it is damaged, has other
    content, or its network is not of this class.
    """
    with path.open("rb") as file:
        machine = _Reader(path, limits.file_length(file))
        if file.read(2) == b"PK":
            raise machine.refused("is a file of torch.save, which EDM's are not")
        file.seek(0)
        content = machine.run(file)
    network = content.get("ema") if isinstance(content, dict) else None
    if not isinstance(network, Object) or "_modules" not in network.attributes:
        raise machine.refused("has no network under 'ema'")
    if network.name != class_name:
        raise machine.refused(f"has a network of class {network.name[:50]}, not {class_name}")
    arguments = network.attributes.get("_init_kwargs")
    if not isinstance(arguments, dict) or network.attributes.get("_init_args"):
        raise machine.refused("does not name the arguments of its network")
    return Module(dict(arguments), dict(_tensors(network, "", machine)))


def _tensors(module: Object, prefix: str, machine: Machine) -> list[tuple[str, np.ndarray]]:
    """Returns the parameters and buffers of a module and its submodules by dotted name."""
    if prefix.count(".") > MODULE_DEPTH:
        raise machine.refused(f"has modules nested more than {MODULE_DEPTH} deep")
    found = []
    for kind in ("_parameters", "_buffers", "_modules"):
        parts = module.attributes.get(kind)
        if not isinstance(parts, dict):
            raise machine.refused(f"has a module without {kind}")
        for name, part in parts.items():
            if part is None:
                continue
            if kind == "_modules" and isinstance(part, Object):
                found += _tensors(part, f"{prefix}{name}.", machine)
            elif kind != "_modules" and isinstance(part, np.ndarray):
                found.append((f"{prefix}{name}", part))
            else:
                raise machine.refused(f"has something else in {kind} of a module")
    return found


class _Reader(Machine):
    globals = frozenset(
        {
            *(PERSISTENT, EASY_DICT, LOAD_STORAGE, MODULE_DICT, MODULE_LIST, DTYPE),
            *(ORDERED_DICT, REBUILD_TENSOR, REBUILD_PARAMETER, *SCALARS, *SETS),
        }
    )

    def __init__(self, path: Path, length: int):
        # Each storage is in the pickle as bytes, and taken out of them once.
        super().__init__(str(path), "a network snapshot of EDM or EDM2", PickleBudget(3 * length))
        self.path = path
        self.viewed = limits.TENSOR_SHARING * length

    def children(self, value: Any) -> Iterable[Any] | None:
        return super().children(vars(value) if isinstance(value, Object) else value)

    def call(self, function: str, arguments: tuple) -> Any:
        match function, arguments:
            case (name, ()) if name == EASY_DICT:
                return {}
            case (name, ()) if name == ORDERED_DICT:
                return OrderedDict()
            case (name, ()) if name in (MODULE_DICT, MODULE_LIST):
                return Object(name)
            case (name, ([],)) if name in SETS:
                return set()
            case (name, (dict(about),)) if name == PERSISTENT:
                return self._persistent(about)
            case (name, (bytes(data),)) if name == LOAD_STORAGE:
                self.budget.spend(len(data))
                return torch_legacy.read(io.BytesIO(data), self.path, self.budget)
            case (name, (np.ndarray() as numbers, offset, tuple(size), tuple(stride), *_)) if (
                name == REBUILD_TENSOR and numbers.ndim == 1 and is_view(offset, size, stride)
            ):
                if reaches_beyond(numbers.size, offset, size, stride):
                    raise self.refused("has a tensor that reaches beyond its storage")
                self.viewed -= math.prod(size) * numbers.itemsize
                if self.viewed < 0:
                    raise self.refused(
                        f"has tensors of more than {limits.TENSOR_SHARING} times its length"
                    )
                return view(numbers, offset, size, stride)
            case (name, (np.ndarray() as data, _, _)) if name == REBUILD_PARAMETER:
                return data
            case (name, (str(code), *_)) if name == DTYPE and code in ("f4", "f8", "i4", "i8"):
                return np.dtype(f"<{code}")
            case (name, (np.dtype() as dtype, bytes(data))) if (
                name in SCALARS and len(data) == dtype.itemsize
            ):
                return np.frombuffer(data, dtype)[0].item()
        raise self.refused(f"calls {function.replace(' ', '.')} with unknown arguments")

    def build(self, instance: Any, state: Any) -> Any:
        match instance, state:
            case Object(), dict():
                instance.attributes = state
            case np.dtype(), tuple():  # its byte order, which is little
                pass
            case dict(), dict():  # attributes of a dict
                pass
            case _:
                raise self.refused("sets the state of something unknown")
        return instance

    def _persistent(self, about: dict) -> Object:
        match about:
            case {"type": "class", "class_name": str(name), "state": dict(state)}:
                return Object(name, state)
            case {"type": "class", "class_name": str(name), "state": None}:
                return Object(name)
        raise self.refused("has an object that is not described as NVIDIA's programs do")
