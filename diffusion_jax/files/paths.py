"""Paths as users write them: ~ is expanded, and addresses such as gs://bucket/run are refused."""

import re
from pathlib import Path

# "gs://bucket", and "gs:/bucket" after pathlib has joined its slashes. A drive has one letter.
REMOTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")


def local_path(text: str | Path) -> Path:
    """Returns the path, with ~ and ~user expanded; commas and spaces belong to it.

    Raises ValueError for an empty text, an unknown user, and an address of another machine.
    """
    given = str(text)
    if not given.strip():
        raise ValueError("a path is empty; write the name of a file or folder, or . for this one")
    if REMOTE.match(given):
        raise ValueError(
            f"{given} is a URL; give a local path, such as a mount (gcsfuse, s3fs) or a copy"
        )
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise ValueError(f"{given}: unknown user; give a path without ~") from None
