"""Reads JSON files that hold one object."""

import json
from pathlib import Path
from typing import Any


def read(path: Path, *, remedy: str) -> dict[str, Any]:
    """The object in the file. remedy: what to do about a damaged file, "delete it to ...".

    Raises FileNotFoundError if there is no such file, and ValueError with a one-line message that
    names it if it is damaged or holds something else.
    """
    try:
        values = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not readable as JSON: {error}; {remedy}") from None
    if not isinstance(values, dict):
        raise ValueError(f"{path} holds no JSON object; {remedy}")
    return values
