"""What is printed reaches the terminal without control sequences, wherever its words come from."""

import re
import sys
from typing import Any, TextIO

# Control characters, and those that turn the direction of text. Bars move the cursor with the rest.
CONTROL = r"\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069"
IN_TEXT = re.compile(f"[\\r{CONTROL}]")
BESIDE_BARS = re.compile(rf"(?!\x1b\[A)[{CONTROL}]")


class Plain:
    """A stream that shows ? for each character that a terminal would obey."""

    def __init__(self, stream: TextIO, obeyed: re.Pattern[str]):
        self._stream, self._obeyed = stream, obeyed

    def write(self, text: str) -> int:
        return self._stream.write(self._obeyed.sub("?", text))

    def __eq__(self, other: object) -> bool:
        """So that absl finds, and removes, a second handler that logs to the same stream."""
        return other is self or other is self._stream

    __hash__ = object.__hash__

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def make_plain() -> None:
    """From now on, what this process prints is plain, but for the movements of progress bars."""
    sys.stdout.reconfigure(errors="backslashreplace")  # for file names that are not valid text
    sys.stdout = Plain(sys.stdout, IN_TEXT)
    sys.stderr = Plain(sys.stderr, BESIDE_BARS)
