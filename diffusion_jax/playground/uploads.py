"""Uploads: the folder of uploaded and sampled pictures, the only files that a request can use."""

import hmac
import os
import re
import secrets
import shutil
import time
from pathlib import Path
from typing import Any

LARGEST_FILE = 5 * 2**20  # bytes
LONGEST_NAME = 100  # characters; of longer names, the end is kept
# Of the folder; the oldest files beyond these are deleted.
MOST_BYTES = 2**30
MOST_FILES = 10_000
MOST_SECONDS = 24 * 3600
TRIM_SECONDS = 10  # between two searches for files to delete


class Uploads:
    """A folder with a subfolder for each file, whose name cannot be guessed.

    Gradio writes sampled pictures to the same folder.
    """

    def __init__(self, folder: str | Path):
        self.folder = os.path.realpath(folder)
        self._pattern = re.compile(rf"{re.escape(self.folder)}/[0-9a-f]{{64}}/[^/\0]+")
        self._secret = secrets.token_bytes()
        self._next_trim = 0.0

    async def receive(self, request: Any) -> Any:
        """Stores the file of a Starlette request; answers with a list of its path, as Gradio does.

        Equal files with equal names get the same path, whether or not they have been uploaded
        before. Gradio's own route takes many files, and does not delete the files of incomplete
        requests.
        """
        from starlette.datastructures import UploadFile
        from starlette.responses import JSONResponse, PlainTextResponse

        async with request.form(max_files=1, max_fields=0) as form:
            file = form.get("files")
            if not isinstance(file, UploadFile):
                return PlainTextResponse("The request has no file", 400)
            content = await file.read()
        name = re.sub(r"[^A-Za-z0-9_.-]", "_", Path(file.filename or "").name)
        name = name[-LONGEST_NAME:].lstrip(".") or "picture"
        secret = hmac.new(self._secret, name.encode() + b"/" + content, "sha256")
        path = Path(self.folder, secret.hexdigest(), name)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        return JSONResponse([str(path)])

    def has(self, path: str) -> bool:
        """True if the path is a regular file of the folder. Accesses no path outside it."""
        if not self._pattern.fullmatch(path):
            return False
        try:  # the second condition excludes "..", and links
            return os.path.isfile(path) and os.path.realpath(path) == path
        except ValueError:  # surrogates
            return False

    def trim(self) -> None:
        """Deletes the oldest files if the folder has grown too large."""
        if time.monotonic() < self._next_trim:
            return
        self._next_trim = time.monotonic() + TRIM_SECONDS
        entries = [(*_time_and_size(entry), entry) for entry in Path(self.folder).iterdir()]
        oldest, total = time.time() - MOST_SECONDS, 0
        for number, (changed, size, entry) in enumerate(sorted(entries, reverse=True)):
            total += size
            if changed < oldest or total > MOST_BYTES or number >= MOST_FILES:
                shutil.rmtree(entry, ignore_errors=True)


def _time_and_size(entry: Path) -> tuple[float, int]:
    """Returns the time of the last change and the bytes of a file, or of a folder's files."""
    try:
        files = list(entry.iterdir()) if entry.is_dir() else [entry]
        return entry.stat().st_mtime, sum(file.stat().st_size for file in files)
    except OSError:  # moved in the meantime
        return 0.0, 0
