"""What reading one pickle may take: instructions, and bytes of text and numbers."""

from dataclasses import dataclass, field
from typing import Any

MOST_OPCODES = 2**19  # the pickles of real files have below 200,000, and one takes up to 300 bytes
LONGEST_LINE = 2**16  # bytes; of a name or a number that ends with its line


@dataclass
class Budget:
    """What is left. nbytes: of texts, byte strings and copies of them, or numbers, together."""

    nbytes: int
    opcodes: int = field(default_factory=lambda: MOST_OPCODES)

    def take_opcode(self) -> None:
        """Raises ValueError if none is left."""
        self.opcodes -= 1
        if self.opcodes < 0:
            raise ValueError(f"it has more than {MOST_OPCODES:,} instructions")

    def take(self, count: int) -> None:
        """Raises ValueError if fewer bytes are left."""
        if count < 0 or count > self.nbytes:
            raise ValueError(f"it takes {count - self.nbytes:,} bytes more than it may")
        self.nbytes -= count


class Metered:
    """A stream, as pickletools reads it, whose reads are paid for before they take memory."""

    def __init__(self, stream: Any, budget: Budget):
        self._stream, self._budget = stream, budget

    def read(self, count: int) -> Any:
        """`count` bytes, or fewer at the end. Raises ValueError if these are more than is left."""
        if count > 1:
            self._budget.take(count)
        return self._stream.read(count)

    def readline(self) -> bytes:
        """A line. Raises ValueError if it is longer than lines of pickles are."""
        line = self._stream.readline(LONGEST_LINE)
        if len(line) == LONGEST_LINE:
            raise ValueError(f"it has a line of more than {LONGEST_LINE:,} bytes")
        self._budget.take(len(line))
        return line
