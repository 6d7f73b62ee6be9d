"""Signals that end a run after the current step, the same step in all processes."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import jax

from diffusion_jax import parallel

# From a user, from a cluster that ends or moves a job, and from SLURM's --signal.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class Interruption:
    """Signals received so far.

    Attributes:
        hurried: True after a second Ctrl-C in a run of one process. With several processes it is
            never True, since the others would wait for this one in the sampler.
    """

    def __init__(self) -> None:
        self.hurried = False
        self._received = False
        self._ctrl_c = 0
        self._skippable = False
        self._agreed = parallel.any_process()

    def __call__(self) -> bool:
        """True if any process has received a signal.

        All processes call it once a step, and it returns True in the same call in all of them.
        """
        return self._agreed(self._received)

    @contextmanager
    def skippable(self) -> Iterator[None]:
        """Marks work, such as sampling, that a second Ctrl-C ends by a KeyboardInterrupt."""
        self._skippable = True
        try:
            yield
        finally:
            self._skippable = False

    def receive(self, number: int, frame: FrameType | None = None) -> None:
        """Handles a signal. A third Ctrl-C, or a second in one of several processes, raises."""
        if not self._received and jax.process_index() == 0:
            alone = jax.process_count() == 1
            more = " Ctrl-C again skips the samples." if alone else ""
            line = "\nStopping after this step: a checkpoint is saved, then a grid is sampled."
            os.write(2, f"{line}{more}\n".encode())  # a handler may not print
        self._received = True
        if number != signal.SIGINT:
            return
        self._ctrl_c += 1
        if self._ctrl_c == 1:
            return
        if self._ctrl_c > 2 or jax.process_count() > 1:
            raise KeyboardInterrupt
        self.hurried = True
        if self._skippable:
            raise KeyboardInterrupt


@contextmanager
def interruptible() -> Iterator[Interruption]:
    """Yields the interruption of a run, which handles `SIGNALS` within the context."""
    interruption = Interruption()
    before: dict[int, Any] = {
        number: signal.signal(number, interruption.receive) for number in SIGNALS
    }
    try:
        yield interruption
    finally:
        for number, handler in before.items():
            # None is a handler that was not set by Python, such as JAX's, and cannot be restored.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
