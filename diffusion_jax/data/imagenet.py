"""ImageNet 64x64 from the zip files of image-net.org, without TensorFlow.

The same pixels come in two formats: Imagenet64_train_part1.zip, Imagenet64_train_part2.zip and
Imagenet64_val.zip contain pickles; the same names with the suffix _npz contain .npz files. In both,
each member has `data`, uint8 (images, 3 * 64 * 64), channels first, and `labels`, 1 to 1000.
"""

import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path
from typing import Any, cast

import numpy as np
from jaxtyping import Int, UInt8

from diffusion_jax.data import numpy_pickle
from diffusion_jax.files import limits

SHAPE = (64, 64, 3)
ROWS = 2048  # images decoded at a time
# Numbers of images in the full dataset, by split.
COUNTS = {"train": 1_281_167, "validation": 50_000}
ZIPS = {"train": ("train_part1", "train_part2"), "validation": ("val",)}
MEMBERS = {"train": r"train_data_batch_(\d+)", "validation": r"val_data()"}
# Raised by zipfile for damaged files and files that are not zip archives.
DAMAGE = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, OverflowError)
DAMAGE += (NotImplementedError, RuntimeError, UnicodeError)

ImageNetImages = UInt8[np.ndarray, "batch 64 64 3"]


@dataclass(frozen=True)
class Part:
    """Member of a zip file; size and checksum are of its uncompressed bytes."""

    zip_path: Path
    member: str
    size: int
    checksum: int

    @property
    def name(self) -> str:
        return f"{self.zip_path.name}/{self.member}"

    @property
    def identity(self) -> str:
        """Name, size and checksum; another file of the same name has another identity."""
        return f"{self.name} {self.size} {self.checksum:08x}"


def class_names() -> list[str]:
    """Returns the names by label, in this dataset's own order: 0 is kit fox, 999 dumbbell."""
    return Path(__file__).with_name("imagenet64_classes.txt").read_text().splitlines()


def find_parts(source: Path, split: str) -> list[Part]:
    """Finds the zip members of a split, in the order of their batch numbers.

    Raises FileNotFoundError if a zip file is missing, and ValueError if one is damaged, is not a
    zip file, or has no or duplicate members.
    """
    paths = _zip_paths(source, split)
    found: dict[int, Part] = {}
    for path in paths:
        numbers = {}
        for info in _members(path):
            stem = Path(info.filename).name.removesuffix(".npz").removesuffix(".pkl")
            if match := re.fullmatch(MEMBERS[split], stem):
                part = Part(path, info.filename, info.file_size, info.CRC)
                numbers[int(match[1] or 0)] = part
        if not numbers:
            raise ValueError(
                f"{path} has no members such as {MEMBERS[split]!r}; is it another zip file?"
            )
        if twice := found.keys() & numbers.keys():
            raise ValueError(
                f"{path} and {found[min(twice)].zip_path} both contain batch {min(twice)}: one is "
                "misnamed"
            )
        found |= numbers
    return [found[number] for number in sorted(found)]


def _zip_paths(source: Path, split: str) -> list[Path]:
    kinds = [
        [source / f"Imagenet64_{part}{suffix}.zip" for part in ZIPS[split]]
        for suffix in ("", "_npz")
    ]
    for paths in kinds:
        if all(path.is_file() for path in paths):
            return paths
    for paths in kinds:
        if there := [path for path in paths if path.is_file()]:
            missing = next(path for path in paths if path not in there)
            raise FileNotFoundError(f"{missing} is missing, although {there[0].name} exists")
    wanted = " and ".join(f"Imagenet64_{part}.zip" for part in ZIPS[split])
    raise FileNotFoundError(f"{source} has neither {wanted} nor the same with _npz")


def read(part: Part, spool: Path) -> Iterator[tuple[ImageNetImages, Int[np.ndarray, "batch"]]]:
    """Yields batches of images and labels (0 to 999) of a member.

    spool: folder for temporary files, at most as large as the member. Raises ValueError if the
    member is damaged or has unexpected content.
    """
    try:
        with (
            limits.open_zip(part.zip_path) as members,
            cast(zipfile.ZipExtFile, members.open(part.member)) as stream,
        ):
            if part.member.endswith(".npz"):
                yield from _read_npz(stream, part.name)
            else:
                yield from _read_pickle(stream, part.name, spool, part.size)
    except DAMAGE as error:
        reason = limits.one_line(error)
        raise ValueError(f"{part.name} is damaged: {reason}; download it again") from None


def _members(path: Path) -> list[zipfile.ZipInfo]:
    """Returns the members of a zip file within the limits."""
    try:
        with limits.open_zip(path) as members:
            limits.check_members(members.infolist(), path.stat().st_size)
            return members.infolist()
    except (*DAMAGE, ValueError) as error:
        reason = limits.one_line(error)
        raise ValueError(
            f"{path} is damaged or not a zip file: {reason}; download it again"
        ) from None


def _read_pickle(
    stream: BufferedIOBase, name: str, spool: Path, size: int
) -> Iterator[tuple[np.ndarray, Any]]:
    values = numpy_pickle.read(stream, name, spool, size)
    data, labels = values.get("data"), values.get("labels")
    if not isinstance(data, numpy_pickle.PickledArray):
        raise ValueError(f"{name} has no arrays `data` and `labels`")
    _check_data(data.shape, data.dtype, name)
    if isinstance(labels, numpy_pickle.PickledArray):
        _check_count(data.shape[0], labels.shape, name)
        labels = np.concatenate([*labels.chunks(2**20), np.empty(0, labels.dtype)])
    if not isinstance(labels, list | np.ndarray):
        raise ValueError(f"{name} has no arrays `data` and `labels`")
    labels = _checked(data.shape, labels, name)
    yield from _batches(data.chunks(ROWS), labels)


def _read_npz(stream: BufferedIOBase, name: str) -> Iterator[tuple[np.ndarray, Any]]:
    with limits.open_zip(stream) as arrays:
        limits.check_members(arrays.infolist(), limits.file_length(stream))
        if not {"data.npy", "labels.npy"} <= set(arrays.namelist()):
            raise ValueError(f"{name} has no arrays `data` and `labels`")
        with cast(zipfile.ZipExtFile, arrays.open("data.npy")) as file:
            data = _header(file, arrays.getinfo("data.npy").file_size, name)
            _check_data(data.shape, data.dtype, name)
        with cast(zipfile.ZipExtFile, arrays.open("labels.npy")) as file:
            about = _header(file, arrays.getinfo("labels.npy").file_size, name)
            _check_count(data.shape[0], about.shape, name)
            if about.dtype.kind not in "iu":
                raise ValueError(f"{name} has labels of type {about.dtype}")
            labels = np.frombuffer(_exactly(file, about.nbytes, name), about.dtype)
        with cast(zipfile.ZipExtFile, arrays.open("data.npy")) as file:
            _header(file, arrays.getinfo("data.npy").file_size, name)
            labels = _checked(data.shape, labels, name)
            yield from _batches(_npy_rows(file, data.shape, name), labels)


def _header(file: BufferedIOBase, length: int, name: str) -> limits.NpyHeader:
    try:
        header = limits.read_npy_header(file, length)
    except ValueError as error:
        raise ValueError(f"{name} is damaged: {error}") from None
    if header.fortran_order and len(header.shape) > 1:
        raise ValueError(f"{name} has an array in Fortran order")
    return header


def _exactly(file: BufferedIOBase, count: int, name: str) -> bytes:
    data = file.read(count)
    if len(data) < count or file.read(1):
        raise ValueError(f"{name} is damaged: an array has another length than its header says")
    return data


def _npy_rows(file: BufferedIOBase, shape: tuple[int, ...], name: str) -> Iterator[np.ndarray]:
    for first in range(0, shape[0], ROWS):
        count = min(ROWS, shape[0] - first)
        data = file.read(count * shape[1])
        if len(data) < count * shape[1]:
            raise ValueError(f"{name} is damaged: it ends after {first} of {shape[0]} images")
        yield np.frombuffer(data, np.uint8).reshape(count, shape[1])


def _check_data(shape: tuple, dtype: np.dtype, name: str) -> None:
    wanted = int(np.prod(SHAPE))
    if dtype != np.uint8 or len(shape) != 2 or shape[1] != wanted:
        raise ValueError(
            f"{name} has data of type {dtype} and shape {shape}; uint8 and (images, {wanted}) "
            "were expected (64x64 images)"
        )


def _check_count(images: int, shape: tuple, name: str) -> None:
    if shape != (images,):
        raise ValueError(f"{name} has {images} images and labels of shape {shape}")


def _checked(shape: tuple, labels: Any, name: str) -> np.ndarray:
    if len(labels) != shape[0]:
        raise ValueError(f"{name} has {shape[0]} images and {len(labels)} labels")
    if not all(isinstance(label, int | np.integer) and abs(label) < 2**31 for label in labels):
        raise ValueError(f"{name} has labels that are not integers")
    labels = np.asarray(labels, np.int64)
    if len(labels) and not (labels.min() >= 1 and labels.max() <= 1000):
        raise ValueError(
            f"{name} has labels from {labels.min()} to {labels.max()}; 1 to 1000 were expected"
        )
    return labels - 1


def _batches(chunks: Iterator[np.ndarray], labels: np.ndarray) -> Iterator[tuple]:
    first = 0
    for chunk in chunks:
        count = len(chunk)
        images = chunk.reshape(count, 3, 64, 64).transpose(0, 2, 3, 1)
        yield np.ascontiguousarray(images), labels[first : first + count].astype(np.int32)
        first += count
