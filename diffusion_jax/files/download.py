"""Downloads, made once and checked."""

import shutil
import urllib.request
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path

from diffusion_jax.files import atomic


def fetch(
    address: str, path: Path, check: Callable[[Path], None], *, size: str, instead: str
) -> Path:
    """Downloads a file to `path`, unless it is already there, and returns `path`.

    check: raises ValueError if a file is not the expected one, even if it was put there by hand.
    size: for the message, such as "96 MB". instead: another way to provide the file, for the error
    message. Raises FileNotFoundError if the download fails.
    """
    if path.is_file():
        check(path)
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    print(f"Downloading {address} ({size})", flush=True)
    try:
        with atomic.replacing(path) as partial:
            with urllib.request.urlopen(address, timeout=60) as answer, partial.open("wb") as file:
                shutil.copyfileobj(answer, file)
            check(partial)
    except (OSError, HTTPException, ValueError) as error:
        raise FileNotFoundError(
            f"{address} cannot be downloaded ({error}); download it elsewhere and {instead}, or "
            f"put it into {path.parent}"
        ) from None
    return path
