"""Files that are written whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside `path`; what is written there becomes `path` at the end.

    The data reaches the disk before the rename, so `path` has either its old or its complete new
    content, even after a power failure. If the block raises, the temporary file is deleted and
    `path` is left as it was. The temporary name contains the process id, so that processes writing
    the same file do not disturb one another. Raises OSError if the file cannot be written.
    """
    partial = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        yield partial
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes `text` as UTF-8, see `replacing`."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")
