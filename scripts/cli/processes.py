"""Several processes: connecting them, and ending one that fails without waiting for the others."""

import contextlib
import os
import sys
import threading
import traceback
from collections.abc import Iterator

from absl import flags

_COORDINATOR = flags.DEFINE_string(
    "coordinator",
    None,
    "For several machines: HOST:PORT of process 0, with --num_processes and --process_id; or "
    "'auto' under SLURM, Open MPI, Kubernetes or on Cloud TPU, where all three are detected.",
)
_NUM_PROCESSES = flags.DEFINE_integer(
    "num_processes", None, "Number of processes, one per machine."
)
_PROCESS_ID = flags.DEFINE_integer("process_id", None, "Index of this process, from 0.")

LOST = (
    "Error: Another process of this command has ended, or cannot be reached; its output may say "
    "why. The same command resumes."
)
HEARTBEAT = 40  # seconds without a sign of a process, after which the others end
PATIENCE = 10  # seconds that a process which has failed waits for others that fail, too
# Parts of the errors of collectives whose other side is gone.
OF_COLLECTIVES = ("Gloo", "NCCL", "UNAVAILABLE", "Connection reset", "Connection closed")


def connect() -> None:
    """Connects this process with the others if the flags name any.

    Raises ValueError for an incomplete set of flags.
    """
    import jax

    given = [flag.value for flag in (_COORDINATOR, _NUM_PROCESSES, _PROCESS_ID)]
    if given == [None] * 3:
        return
    automatic = _COORDINATOR.value == "auto"
    if None in given and not automatic:
        raise ValueError(
            "--coordinator=HOST:PORT, --num_processes and --process_id belong together; give all "
            "three, or --coordinator=auto"
        )
    # Training handles signals itself; everything else should end at SIGTERM.
    jax.config.update("jax_enable_preemption_service", False)
    arguments = [] if automatic else given
    jax.distributed.initialize(*arguments, heartbeat_timeout_seconds=HEARTBEAT)


@contextlib.contextmanager
def ending_together() -> Iterator[None]:
    """Ends a process that fails, where JAX would wait for the others for five minutes."""
    try:
        yield
    except SystemExit as end:
        if end.code and _connected():
            code = end.code if isinstance(end.code, int) else 1
            _leave(code, HEARTBEAT if code == os.EX_TEMPFAIL else PATIENCE)
        raise
    except Exception as error:
        if not _connected():
            raise
        if any(words in str(error) for words in OF_COLLECTIVES):
            print("\n" + LOST, file=sys.stderr)  # below a progress bar
            _leave(1, 0)
        traceback.print_exc()
        _leave(1, PATIENCE)


def _connected() -> bool:
    import jax

    return jax.distributed.is_initialized()


def _leave(code: int, patience: float) -> None:
    """Ends the process, together with the others if they fail within so many seconds.

    A usual exit would wait for the barrier of `jax.distributed.shutdown`, whose one timeout would
    also hold for processes that succeed and wait for the last one to write its files.
    """
    import jax

    if patience:
        together = threading.Thread(target=jax.distributed.shutdown, daemon=True)
        together.start()
        together.join(patience)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
