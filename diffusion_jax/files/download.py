"""Files fetched once, checked, and kept."""

import shutil
import urllib.request
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path

from diffusion_jax.files import atomic


def fetched(
    address: str, path: Path, check: Callable[[Path], None], *, size: str, instead: str
) -> Path:
    """The file at `path`, from the address if it is not there yet.

    check: raises ValueError for a file that is not the right one; also of one that was put there by
    hand. size: to be shown, "96 MB". instead: what else the user can do. Raises
    FileNotFoundError if it cannot be fetched.
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
            f"{address} cannot be fetched ({error}); fetch it elsewhere and {instead}, or put it "
            f"into {path.parent}"
        ) from None
    return path
