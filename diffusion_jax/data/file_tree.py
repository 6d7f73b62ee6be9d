"""Files below a folder or in a zip archive, by relative path."""

import io
import os
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from diffusion_jax.data import left_out
from diffusion_jax.data.directory_walk import IGNORED_FOLDERS, Walk
from diffusion_jax.data.left_out import LeftOut
from diffusion_jax.files import limits

LONGEST_NAME = 1000  # letters, of a member of an archive


@dataclass
class FolderTree:
    """Files below a folder; see `Walk`.

    names: sorted relative POSIX paths, without hidden files. folders: relative paths. notes: lines
    about files that lie elsewhere. left_out: paths by the reason.
    """

    root: Path
    names: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    left_out: LeftOut = field(default_factory=dict)

    @classmethod
    def walk(cls, root: Path) -> "FolderTree":
        """Lists the files. Raises OSError for a folder that cannot be read."""
        walk = Walk(root)
        names = sorted(walk)
        return cls(root, names, walk.folders, walk.notes(), _left_out(walk.hidden, walk.ignored))

    def state(self, name: str) -> str:
        """Returns size and modification time."""
        try:
            found = (self.root / name).stat()
        except OSError as error:  # a broken link; the decoder reports it
            return str(error.errno)
        return f"{found.st_size} {found.st_mtime_ns}"

    @contextmanager
    def reader(self) -> Iterator[Callable[[str], Path | io.BytesIO]]:
        """Yields the function that returns a file's path."""
        yield self.root.joinpath


@dataclass
class ZipTree:
    """Files in a zip archive, as `FolderTree` has them.

    Nothing is unpacked to disk: the names of members lead nowhere, and one member at a time is
    read into memory by each thread, within the limits of `files.limits`.
    """

    root: Path
    names: list[str]
    folders: list[str]
    notes: list[str]
    left_out: LeftOut
    _members: dict[str, zipfile.ZipInfo]

    @classmethod
    def open(cls, root: Path) -> "ZipTree":
        """Lists the members. Raises ValueError if the archive is damaged or exceeds the limits."""
        members: dict[str, zipfile.ZipInfo] = {}
        ignored, hidden = [], []
        with _one_line(root), _open(root) as archive:
            for info in archive.infolist():
                name = info.filename.replace("\\", "/")
                if name.endswith("/"):
                    continue
                parts = PurePosixPath(name.lstrip("/")).parts
                if not name.isprintable() or len(name) > LONGEST_NAME:
                    raise ValueError(
                        f"its member {limits.shortened(name)} has a name that is too long or has "
                        "unprintable characters"
                    )
                if any(part.startswith(".") for part in parts):
                    hidden.append(name)
                elif any(part in IGNORED_FOLDERS for part in parts[:-1]):
                    ignored.append(name)
                else:
                    name = "/".join(parts)
                    if name in members:
                        raise ValueError(f"it has two members {name[:50]!r}")
                    members[name] = info
        folders = {str(parent) for name in members for parent in PurePosixPath(name).parents}
        left_out = _left_out(hidden, ignored)
        return cls(root, sorted(members), sorted(folders - {"."}), [], left_out, members)

    def state(self, name: str) -> str:
        """Returns size and checksum."""
        return f"{self._members[name].file_size} {self._members[name].CRC:08x}"

    @contextmanager
    def reader(self) -> Iterator[Callable[[str], Path | io.BytesIO]]:
        """Yields the function that reads a file into memory and verifies its checksum."""
        with ExitStack() as stack:
            with _one_line(self.root):
                archive = stack.enter_context(_open(self.root))
            yield lambda name: io.BytesIO(self._read(archive, name))

    def _read(self, archive: zipfile.ZipFile, name: str) -> bytes:
        info = self._members[name]
        if info.file_size > limits.ZIP_IMAGE_BYTES:
            raise ValueError(
                f"{self.root / name} has {info.file_size:,} bytes; at most "
                f"{limits.ZIP_IMAGE_BYTES:,} are read from an archive"
            )
        with _one_line(self.root / name), archive.open(info) as member:
            return member.read()


FileTree = FolderTree | ZipTree


def _left_out(hidden: list[str], ignored: list[str]) -> LeftOut:
    return {left_out.HIDDEN: sorted(hidden), left_out.SYSTEM: sorted(ignored)}


def open_tree(root: Path) -> FileTree:
    """Opens a folder or a zip archive.

    Raises FileNotFoundError if there is neither, and ValueError if the archive is damaged.
    """
    if root.is_dir():
        return FolderTree.walk(root)
    if root.is_file() and root.suffix.lower() == ".zip":
        return ZipTree.open(root)
    if root.exists():
        raise ValueError(f"{root} (data.name) is a file; folder: takes a folder or a .zip archive")
    raise FileNotFoundError(f"The folder {root} (data.name) does not exist")


def read_text(tree: FileTree, name: str) -> str:
    """Reads a text file of at most `limits.LABELS_BYTES`. A ValueError names the file."""
    with tree.reader() as open_file:
        opened = open_file(name)
        try:
            if isinstance(opened, Path):
                if not opened.is_file():  # a pipe would be waited for
                    raise ValueError("it is not a file")
                with opened.open("rb") as file:
                    content = file.read(limits.LABELS_BYTES + 1)
            else:
                content = opened.read(limits.LABELS_BYTES + 1)
            if len(content) > limits.LABELS_BYTES:
                raise ValueError(f"it is longer than {limits.LABELS_BYTES:,} bytes")
            return content.decode("utf-8-sig")
        except ValueError as error:
            reason = limits.one_line(error)
            raise ValueError(f"{tree.root / name} is not readable as text: {reason}") from None


@contextmanager
def _open(root: Path) -> Iterator[zipfile.ZipFile]:
    with limits.open_zip(root, limits.DATASET_ZIP_BYTES) as archive:
        limits.check_members(archive.infolist(), os.path.getsize(root))
        yield archive


@contextmanager
def _one_line(path: Path) -> Iterator[None]:
    """Turns the errors of zipfile and zlib into ValueErrors that name the file."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:  # zipfile and zlib raise almost anything for damaged files
        if str(path) in str(error):
            raise
        reason = limits.one_line(error)
        raise ValueError(f"{path} is damaged, or not a zip archive: {reason}") from None
