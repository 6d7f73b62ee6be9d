"""Files of `torch.save` from before PyTorch 1.6 (not zip archives), read without PyTorch.

Such a file has five parts: a magic number, the version of the format, information about the
machine, the pickle that describes the tensors, and the storages, each preceded by its number of
elements. The pickles are interpreted, not unpickled; see `safe_pickle`.
"""

import struct
from io import BufferedIOBase
from pathlib import Path
from typing import Any

import numpy as np

from diffusion_jax.files.limits import PickleBudget, file_length
from diffusion_jax.files.safe_pickle import Refused
from diffusion_jax.files.torch_pickle import Storage, TensorMachine

MAGIC, VERSION = 0x1950A86A20F9469CFC6C, 1001


def read(file: BufferedIOBase, path: Path, budget: PickleBudget | None = None) -> Any:
    """Reads an open file from its current position; see `torch_reader.read`.

    A file of a single storage, as pickled tensors contain, becomes an array. path: for error
    messages. budget: for its pickles; by default as many bytes as the file has. Raises ValueError
    if the file is damaged or has other content.
    """
    length = file_length(file) - file.tell()
    try:
        return _Reader(path, length, budget or PickleBudget(length), file).read()
    except (struct.error, EOFError, OverflowError, MemoryError) as error:
        raise ValueError(f"{path} is damaged: {error}") from None


class _Reader(TensorMachine):
    def __init__(self, path: Path, length: int, budget: PickleBudget, file: BufferedIOBase):
        super().__init__(str(path), length, budget)
        self.file = file

    def read(self) -> Any:
        try:
            start = self.run(self.file), self.run(self.file)
        except Refused:
            start = None
        if start != (MAGIC, VERSION):
            raise Refused(f"{self.name} is damaged, or not a file of torch.save")
        about = self.run(self.file)
        if not isinstance(about, dict) or about.get("little_endian") is not True:
            raise self.refused("is not little-endian")
        content = self.run(self.file)
        if isinstance(content, Storage):
            content = self.stored(content)
        keys = self.run(self.file)
        storages = {storage.key: storage for storage in self.arrays}
        if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
            raise self.refused("is damaged: it has no list of its storages")
        if set(keys) != set(storages) or not len(keys) == len(storages) == len(self.arrays):
            raise self.refused("has other storages than its tensors refer to")
        for key in keys:
            self._fill(storages[key])
        return content

    def numbers(self, storage: Storage) -> np.ndarray:
        """Allocates the numbers, which follow the pickle."""
        return np.empty(storage.count, storage.dtype)

    def _fill(self, storage: Storage) -> None:
        (count,) = struct.unpack("<q", self.file.read(8))
        if count != storage.count:
            raise self.refused(f"is damaged: storage {storage.key[:20]!r} has a wrong length")
        room = self.arrays[storage].view(np.uint8)
        if self.file.readinto(room.data) != storage.nbytes:
            raise self.refused("is damaged: it ends too early")
