"""Signals that come while Python imports the libraries: nothing can be lost then."""

import os
import signal
from types import FrameType

CODES = {signal.SIGINT: 130, signal.SIGTERM: os.EX_TEMPFAIL, signal.SIGUSR1: os.EX_TEMPFAIL}


def end_at_once() -> None:
    """From now on Ctrl-C, SIGTERM and SIGUSR1 end the process, with the exit codes of training.

    An exception would end it, too, but not where an import swallows it.
    """
    for number in CODES:
        signal.signal(number, _end)


def _end(number: int, frame: FrameType | None) -> None:
    os._exit(CODES[number])
