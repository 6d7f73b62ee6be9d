"""Reads JSON files of bounded length, and those that hold one object."""

import json
from pathlib import Path
from typing import Any

from diffusion_jax.files import nesting

LONGEST = 2**24  # bytes; values of JSON take up to 25 times as much memory


def read(path: Path, *, remedy: str) -> dict[str, Any]:
    """The object in the file. remedy: what to do about a damaged file, "delete it to ...".

    Raises FileNotFoundError if there is no such file, and ValueError with a one-line message that
    names it if it is damaged, longer than LONGEST, nested deeply, or holds something else.
    """
    try:
        values = any_of(path)
    except ValueError as error:
        raise ValueError(f"{path} is not readable as JSON: {error}; {remedy}") from None
    if not isinstance(values, dict):
        raise ValueError(f"{path} holds no JSON object; {remedy}")
    return values


def any_of(path: Path) -> Any:
    """The value in the file, of any kind. Raises OSError, or ValueError without the path."""
    with path.open("rb") as file:
        content = file.read(LONGEST + 1)
    if len(content) > LONGEST:
        raise ValueError(f"it is longer than {LONGEST:,} bytes")
    return parsed(content)


def parsed(text: str | bytes) -> Any:
    """The value in a text. Raises ValueError, also if it is too long or nested too deeply."""
    if len(text) > LONGEST:
        raise ValueError(f"it is longer than {LONGEST:,} bytes")
    try:
        values = json.loads(text)
    except RecursionError:
        raise ValueError("its values are nested too deeply") from None
    nesting.check(values)
    return values
