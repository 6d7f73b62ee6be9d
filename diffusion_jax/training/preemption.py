"""Signals that end a run after the step that is under way, in all processes after the same one."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from diffusion_jax import parallel

# Of a user, of a cluster that ends or moves a job, and of SLURM's --signal.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Yields a function, to be called once a step, that tells whether one of `SIGNALS` has come.

    It tells so to all processes in the same call, whichever got the signal. Further signals change
    nothing, except for a second Ctrl-C, which does what the first did before: it raises
    KeyboardInterrupt.
    """
    received = []

    def remember(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT:
            signal.signal(number, before[number])
        received.append(number)

    before = {number: signal.signal(number, remember) for number in SIGNALS}
    agreed = parallel.in_any_process()
    try:
        yield lambda: agreed(bool(received))
    finally:
        for number, handler in before.items():
            # None: one that was not set by Python, such as JAX's, and cannot be set again.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
