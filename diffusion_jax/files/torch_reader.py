"""Files of `torch.save`, read without PyTorch.

Since PyTorch 1.6 such a file is an uncompressed zip archive: NAME/data.pkl is a pickle that
describes the tensors, and NAME/data/0, 1, ... contain their data. `torch_legacy` reads older
files.
"""

import io
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from diffusion_jax.files import limits, torch_legacy
from diffusion_jax.files.limits import PickleBudget
from diffusion_jax.files.safe_pickle import Refused
from diffusion_jax.files.torch_pickle import Storage, TensorMachine

PICKLE_BYTES = 2**22  # real models have a few hundred thousand

# Raised by zipfile for damaged files and files that are not zip archives.
DAMAGE = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, ValueError, OSError)
DAMAGE += (OverflowError, NotImplementedError, RuntimeError)


def read(path: Path) -> Any:
    """Reads dicts, lists, tuples, numbers and strings; tensors become NumPy arrays.

    Arrays have the type of the tensor; bfloat16 is from ml_dtypes. Raises FileNotFoundError if
    there is no such file, ValueError if it is damaged or has other content.
    """
    with path.open("rb") as file:
        if file.read(4) != b"PK\x03\x04":
            file.seek(0)
            return torch_legacy.read(file, path)
        try:
            with limits.open_zip(file) as members:
                return _Reader(path, members).read()
        except Refused:
            raise
        except DAMAGE as error:
            reason = limits.one_line(error)
            raise ValueError(f"{path} is damaged, or not a file of torch.save: {reason}") from None


class _Reader(TensorMachine):
    def __init__(self, path: Path, members: zipfile.ZipFile):
        length = path.stat().st_size
        super().__init__(str(path), length, PickleBudget(PICKLE_BYTES))
        self.archive = members
        self.members = set(members.namelist())
        if sum(info.file_size for info in members.infolist()) > length:
            raise self.refused("is damaged: its members are larger than the archive")
        pickles = [name for name in self.members if name.endswith("/data.pkl")]
        if len(pickles) != 1 or pickles[0].count("/") != 1:
            raise self.refused("is not a file of torch.save: it has no NAME/data.pkl")
        self.root = pickles[0].removesuffix("data.pkl")
        if self.root + "byteorder" in self.members:
            order = self._member("byteorder", PICKLE_BYTES)
            if order != b"little":
                raise self.refused(f"was saved with the byte order {order[:20]!r}, not little")

    def read(self) -> Any:
        return self.run(io.BytesIO(self._member("data.pkl", PICKLE_BYTES)))

    def numbers(self, storage: Storage) -> np.ndarray:
        data = self._member(f"data/{storage.key}", storage.nbytes)
        if len(data) != storage.nbytes:
            raise self.refused(f"is damaged: data/{storage.key[:20]} has a wrong length")
        return np.frombuffer(data, storage.dtype)

    def _member(self, name: str, largest: int) -> bytes:
        """Returns the bytes of an archive member after verifying its checksum."""
        if self.root + name not in self.members:
            raise self.refused(f"is damaged: {name[:50]!r} is missing")
        info = self.archive.getinfo(self.root + name)
        if info.compress_type != zipfile.ZIP_STORED or info.file_size > largest:
            raise self.refused(f"has a {name[:50]!r} that is compressed or too long")
        return self.archive.read(info)
