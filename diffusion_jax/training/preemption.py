"""Signals that end a run after the current step, the same step in all processes."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import jax

from diffusion_jax import parallel

# From a user, from a cluster that ends or moves a job, and from SLURM's --signal.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
STOPPING = (
    b"\nStopping after this step: the checkpoint is saved, then the last samples are made. Ctrl-C "
    b"again skips the samples.\n"
)


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Yields a function that returns True once any process has received one of `SIGNALS`.

    All processes call it once a step, and it returns True in the same call in all of them. The
    first signal prints a line to stderr at once. Further signals have no effect, except that a
    second Ctrl-C raises KeyboardInterrupt.
    """
    received = []

    def remember(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT:
            signal.signal(number, before[number])
        if not received and jax.process_index() == 0:
            os.write(2, STOPPING)  # print may not be interrupted by another print
        received.append(number)

    before: dict[int, Any] = {number: signal.signal(number, remember) for number in SIGNALS}
    agreed = parallel.any_process()
    try:
        yield lambda: agreed(bool(received))
    finally:
        for number, handler in before.items():
            # None is a handler that was not set by Python, such as JAX's, and cannot be restored.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
