"""Exit codes for signals that arrive while Python imports the libraries."""

import os
import signal
from types import FrameType

CODES: dict[int, int] = {
    signal.SIGINT: 130,
    signal.SIGTERM: os.EX_TEMPFAIL,
    signal.SIGUSR1: os.EX_TEMPFAIL,
}


def end_at_once() -> None:
    """Ends the process at Ctrl-C, SIGTERM or SIGUSR1, with the exit codes of training.

    There is nothing to lose yet. An exception could be swallowed by the code of an import.
    """
    for number in CODES:
        signal.signal(number, _end)


def _end(number: int, frame: FrameType | None) -> None:
    os._exit(CODES[number])
