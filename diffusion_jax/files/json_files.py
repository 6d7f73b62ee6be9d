"""JSON files of bounded length and depth."""

import json
from pathlib import Path
from typing import Any

from diffusion_jax.files import limits


def read_object(path: Path, *, remedy: str) -> dict[str, Any]:
    """Reads the object in a file. remedy: the fix for a damaged file, such as "delete it".

    Raises FileNotFoundError if there is no such file, and ValueError with a one-line message that
    names the file if it is damaged, exceeds the limits, or holds no object.
    """
    try:
        values = read(path)
    except ValueError as error:
        raise ValueError(f"{path} is not readable as JSON: {error}; {remedy}") from None
    if not isinstance(values, dict):
        raise ValueError(f"{path} holds no JSON object; {remedy}")
    return values


def read(path: Path) -> Any:
    """Reads the value in a file. Raises OSError, or ValueError without the path."""
    return parse(limits.read_bytes(path))


def parse(text: str | bytes) -> Any:
    """Parses a text. Raises ValueError if it is no JSON, too long, or nested too deeply."""
    limits.check_text(text)
    try:
        values = json.loads(text)
    except RecursionError:
        raise ValueError("its values are nested too deeply") from None
    limits.check_tree(values)
    return values
