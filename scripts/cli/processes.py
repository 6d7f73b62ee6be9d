"""Several processes: connecting them, and ending one that fails without waiting for the others."""

import contextlib
import os
import socket
import sys
import threading
import traceback
from collections.abc import Iterator
from functools import partial

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
SILENCE = 5  # seconds of waiting for the others before a line is printed
JOINING = 300  # seconds in which all processes have to join
# Parts of the errors of collectives whose other side is gone.
OF_COLLECTIVES = ("Gloo", "NCCL", "UNAVAILABLE", "Connection reset", "Connection closed")


def connect() -> None:
    """Connects this process with the others if the flags name any.

    Raises ValueError for flags that are incomplete or do not fit each other, for a port that is in
    use, and if no cluster is found. Ends the process if not all processes join in time.
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
    # JAX would abort the process after its own timeout.
    join = partial(
        jax.distributed.initialize,
        heartbeat_timeout_seconds=HEARTBEAT,
        initialization_timeout=2 * JOINING,
    )
    if not automatic:
        _check(*given)
        with _limited(_absent(*given)):
            join(*given)
        return
    try:
        with _limited("the other processes of the cluster's job"):
            join()
    except (ValueError, KeyError, IndexError, TypeError, RuntimeError) as error:
        raise ValueError(
            f"--coordinator=auto: the environment is not that of a cluster's job "
            f"({type(error).__name__}: {error}). Start with srun (SLURM), mpirun (Open MPI) or a "
            "Kubernetes job, or give --coordinator=HOST:PORT, --num_processes and --process_id"
        ) from None


def _check(coordinator: str, num_processes: int, process_id: int) -> None:
    """Raises ValueError for flags that cannot work."""
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise ValueError(
            f"--coordinator={coordinator} must be HOST:PORT with a port from 1 to 65535, such as "
            "node0:8476"
        )
    if not 0 <= process_id < num_processes:
        raise ValueError(
            f"--process_id={process_id} must be from 0 to --num_processes - 1 = {num_processes - 1}"
        )
    if process_id == 0:
        both = socket.has_dualstack_ipv6()
        family = socket.AF_INET6 if both else socket.AF_INET
        try:
            socket.create_server(("", int(port)), family=family, dualstack_ipv6=both).close()
        except OSError as error:
            raise ValueError(
                f"--coordinator={coordinator}: process 0 cannot listen on port {port} "
                f"({error.strerror}); choose another port, the same for all processes"
            ) from None


def _absent(coordinator: str, num_processes: int, process_id: int) -> str:
    """Returns the processes that may be missing, and what to check."""
    if process_id == 0:
        return (
            f"processes 1 to {num_processes - 1}: start the same command with their --process_id, "
            f"and see that they can reach {coordinator}"
        )
    return (
        f"all of the {num_processes} processes at {coordinator}: start process 0 there, and see "
        "that its address and port can be reached from here"
    )


@contextlib.contextmanager
def _limited(absent: str) -> Iterator[None]:
    """Prints a line while other processes are awaited; exits after `JOINING` seconds."""
    joined = threading.Event()

    def watch() -> None:
        limit = f"{JOINING / 60:g} minutes"
        if joined.wait(SILENCE):
            return
        print(f"Waiting at most {limit} for {absent}", file=sys.stderr, flush=True)
        if not joined.wait(JOINING - SILENCE):
            message = f"Error: After {limit} this process still waits for {absent}"
            print(message, file=sys.stderr, flush=True)
            os._exit(1)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        joined.set()
        thread.join()


@contextlib.contextmanager
def ending_together() -> Iterator[None]:
    """Exits at once if the process fails; JAX would wait five minutes for the others."""
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
    """Exits the process; waits up to `patience` seconds for the others to shut down together.

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
