"""Output without control sequences, which names in files of others may contain."""

import re
import sys
from io import TextIOWrapper
from typing import Any, TextIO, cast

# Control characters, and characters that change the direction of text.
CONTROL = r"\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069"
IN_TEXT = re.compile(f"[\\r{CONTROL}]")
BESIDE_BARS = re.compile(rf"(?!\x1b\[A)[{CONTROL}]")


class Plain:
    """A stream that shows ? in place of control characters."""

    def __init__(self, stream: TextIO, obeyed: re.Pattern[str]):
        self._stream, self._obeyed = stream, obeyed

    def write(self, text: str) -> int:
        return self._stream.write(self._obeyed.sub("?", text))

    def __eq__(self, other: object) -> bool:
        """True for the wrapped stream, so that absl removes a second handler that logs to it."""
        return other is self or other is self._stream

    __hash__ = object.__hash__

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def make_plain() -> None:
    """Replaces control characters in all later output, except the movements of progress bars."""
    # For file names that are not valid text.
    cast(TextIOWrapper, sys.stdout).reconfigure(errors="backslashreplace")
    sys.stdout = Plain(sys.stdout, IN_TEXT)
    sys.stderr = Plain(sys.stderr, BESIDE_BARS)
