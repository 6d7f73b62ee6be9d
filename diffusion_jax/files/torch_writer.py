"""Files for `torch.load`, written without PyTorch."""

import math
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np

from diffusion_jax.files.atomic import replacing
from diffusion_jax.files.torch_pickle import FLOAT_STORAGE, ORDERED_DICT, REBUILD_TENSOR


def write(path: Path, tree: Any) -> None:
    """Writes `tree` atomically as a file that `torch.load` reads.

    tree: dicts, OrderedDicts, lists, tuples, numbers, strings, None and float32 NumPy arrays.
    Raises TypeError for anything else.
    """
    arrays: list[np.ndarray] = []
    # Protocol 2, as torch.save uses.
    pickle = b"\x80\x02" + b"".join(_opcodes(tree, arrays)) + b"."
    root = path.stem
    with replacing(path) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(zipfile.ZipInfo(f"{root}/data.pkl"), pickle)
        archive.writestr(zipfile.ZipInfo(f"{root}/byteorder"), b"little")
        for key, array in enumerate(arrays):
            with archive.open(zipfile.ZipInfo(f"{root}/data/{key}"), "w") as member:
                member.write(np.ascontiguousarray(array, "<f4").reshape(-1).view(np.uint8).data)
        archive.writestr(zipfile.ZipInfo(f"{root}/version"), b"3\n")


def _opcodes(tree: Any, arrays: list[np.ndarray]) -> list[bytes]:
    """Returns the opcodes that push `tree` on the stack; appends its arrays to `arrays`."""
    match tree:
        case None:
            return [b"N"]
        case bool():
            return [b"\x88" if tree else b"\x89"]
        case int() if -(2**31) <= tree < 2**31:
            return [b"J", struct.pack("<i", tree)]
        case int():
            number = tree.to_bytes(tree.bit_length() // 8 + 1, "little", signed=True)
            return [b"\x8a", bytes([len(number)]), number]
        case float():
            return [b"G", struct.pack(">d", tree)]
        case str():
            text = tree.encode()
            return [b"X", struct.pack("<I", len(text)), text]
        case tuple():
            return [b"(", *_each(tree, arrays), b"t"]
        case list():
            return [b"](", *_each(tree, arrays), b"e"]
        case dict():
            start = [*_name(ORDERED_DICT), b")R"] if isinstance(tree, OrderedDict) else [b"}"]
            items = [part for pair in tree.items() for part in pair]
            return [*start, b"(", *_each(items, arrays), b"u"]
        case np.ndarray() if tree.dtype == np.float32:
            key = str(len(arrays))
            arrays.append(tree)
            identity = ["storage", key, "cpu", tree.size]
            kind, key, place, count = (_opcodes(part, arrays) for part in identity)
            storage = [b"(", *kind, *_name(FLOAT_STORAGE), *key, *place, *count, b"tQ"]
            stride = tuple(math.prod(tree.shape[axis + 1 :]) for axis in range(tree.ndim))
            view = _each([0, tree.shape, stride, False], arrays)
            hooks = [*_name(ORDERED_DICT), b")R"]
            return [*_name(REBUILD_TENSOR), b"(", *storage, *view, *hooks, b"tR"]
    raise TypeError(f"Unsupported type in a file of tensors: {type(tree)}")


def _each(items: Any, arrays: list[np.ndarray]) -> list[bytes]:
    return [opcode for item in items for opcode in _opcodes(item, arrays)]


def _name(name: str) -> list[bytes]:
    return [b"c", name.replace(" ", "\n").encode(), b"\n"]
