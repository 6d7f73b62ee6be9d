"""Signals that end a run after the step that is under way."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import jax


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Yields a function that tells whether SIGTERM or Ctrl-C has come; a second one ends at once.

    With several processes signals keep their meaning, since all must stop at the same step.
    """
    received = []
    if jax.process_count() > 1:
        yield lambda: False
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def remember(number: int, frame: object) -> None:
        received.append(number)
        restore()

    for number in before:
        signal.signal(number, remember)
    try:
        yield lambda: bool(received)
    finally:
        restore()
