"""Several processes: how they meet, and that none waits for one that has ended."""

import contextlib
import os
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from scripts.cli.explained_aborts import LAST_WORDS

LOST = (
    "Error: Another process of this command has ended, or cannot be reached; what it wrote may say "
    "why. The same command goes on where it can."
)
HEARTBEAT = 40  # seconds without a sign of a process, after which the others end
PATIENCE = 10  # seconds that a process which has failed waits for others that fail, too
# What the errors of collectives say where the other side is gone.
OF_COLLECTIVES = ("Gloo", "NCCL", "UNAVAILABLE", "Connection reset", "Connection closed")


def connect(**arguments: Any) -> None:
    """Connects this process with the others; arguments: of `jax.distributed.initialize`."""
    import jax

    _explain_aborts()
    # Training hears signals by itself; everything else should end at SIGTERM.
    jax.config.update("jax_enable_preemption_service", False)
    jax.distributed.initialize(heartbeat_timeout_seconds=HEARTBEAT, **arguments)


@contextlib.contextmanager
def ending_together() -> Iterator[None]:
    """Ends a process that fails, for which JAX would have the others wait for five minutes."""
    try:
        yield
    except SystemExit as end:
        if end.code and _connected():
            _leave(end.code, HEARTBEAT if end.code == os.EX_TEMPFAIL else PATIENCE)
        raise
    except Exception as error:
        if not _connected():
            raise
        if any(words in str(error) for words in OF_COLLECTIVES):
            os.write(2, LAST_WORDS[0] + b"\n")
            _leave(1, 0)
        traceback.print_exc()
        _leave(1, PATIENCE)


def _connected() -> bool:
    import jax

    return jax.distributed.is_initialized()


def _leave(code: int, patience: float) -> None:
    """Ends the process, together with the others if they come within so many seconds."""
    import jax

    if patience:
        together = threading.Thread(target=jax.distributed.shutdown, daemon=True)
        together.start()
        together.join(patience)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _explain_aborts() -> None:
    """Puts one line in place of what JAX writes when it ends a process that has lost another.

    JAX aborts then, so that no code of this process can do that. Another one reads the messages of
    the libraries that are not Python, and passes on all others.
    """
    messages, to_reader = os.pipe()
    terminal = os.dup(2)
    subprocess.Popen(
        [sys.executable, "-I", "-S", Path(__file__).with_name("explained_aborts.py"), LOST],
        stdin=messages,
        stdout=terminal,
        start_new_session=True,  # Ctrl-C is for this process
    )
    os.close(messages)
    sys.stderr.flush()
    sys.stderr = open(terminal, "w", buffering=1, errors="backslashreplace")  # noqa: SIM115
    os.dup2(to_reader, 2)
    os.close(to_reader)
