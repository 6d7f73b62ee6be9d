"""Opens zip archives of which nobody knows who made them, and says no before they take memory.

What an archive may unpack to is bounded by its own length: photographs, weights and statistics
hardly become smaller when they are compressed, and a file that grows a thousandfold is no data.
"""

import os
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import BufferedIOBase
from pathlib import Path

MOST_TIMES = 20  # an archive unpacks to at most so many times its length ...
AT_LEAST = 2**28  # ... or to so many bytes, whichever is more
LONGEST_LIST = 2**24  # bytes of the list of members, which is about 200,000 of them
LONGEST_REASON = 200  # characters
METHODS = {zipfile.ZIP_STORED: "stored", zipfile.ZIP_DEFLATED: "deflated"}


@contextmanager
def opened(file: Path | BufferedIOBase) -> Iterator[zipfile.ZipFile]:
    """The archive at a path or in an open file; its members may still be too long, see `check`.

    Raises ValueError or zipfile.BadZipFile if it is damaged, OSError if it cannot be opened.
    """
    if isinstance(file, Path):
        with file.open("rb") as stream, opened(stream) as archive:
            yield archive
        return
    guarded = _Guarded(file)
    with zipfile.ZipFile(guarded) as archive:
        guarded.most = None
        yield archive


def check(members: Iterable[zipfile.ZipInfo], length: int) -> None:
    """Raises ValueError if these members of an archive unpack to more than they may.

    length: of the archive in bytes. Zipfile never unpacks a member to more than it is said to be.
    """
    total = 0
    for info in members:
        if info.compress_type not in METHODS:
            raise ValueError(
                f"{info.filename[:50]!r} is compressed with method {info.compress_type}; stored "
                "and deflated ones are read"
            )
        total += info.file_size
    most = max(AT_LEAST, MOST_TIMES * length)
    if total > most:
        raise ValueError(
            f"it unpacks to {total:,} bytes from {length:,}; at most {most:,} are read (if that is "
            "right, write it uncompressed)"
        )


def reason(error: Exception) -> str:
    """What an error says, in a line that is not too long; of damage, zipfile quotes many bytes."""
    line = next(iter(str(error).splitlines()), "") or type(error).__name__
    return line if len(line) <= LONGEST_REASON else f"{line[:LONGEST_REASON]}..."


def length_of(stream: BufferedIOBase) -> int:
    """The bytes in an open file, whose position is kept."""
    before = stream.tell()
    length = stream.seek(0, os.SEEK_END)
    stream.seek(before)
    return length


class _Guarded:
    """A file that refuses long reads while zipfile reads the list of members in one piece."""

    def __init__(self, file: BufferedIOBase):
        self._file, self.most = file, LONGEST_LIST
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable

    def read(self, count: int = -1) -> bytes:
        if self.most is not None and count > self.most:
            raise zipfile.BadZipFile(f"its list of members has {count:,} bytes")
        return self._file.read(count)

    def close(self) -> None:
        """The file belongs to whoever opened it."""
