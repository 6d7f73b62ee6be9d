"""Sends signals at random moments to a run of one process and to one of two.

A signal goes to one of the processes; half of them are followed by a second SIGTERM or SIGUSR1.
All processes must end with exit code 75 within a minute, and the run must resume from the step at
which it reports to have stopped. `early` sends signals before that, while libraries are imported
and training begins. Prints the rows of the table in docs/reliability.md.
"""

import os
import random
import re
import signal
import tempfile
import time
from pathlib import Path

from diffusion_jax.training.checkpoints import Checkpoints
from diffusion_jax.training.preemption import SIGNALS
from reliability.runs import Run

CHANGES = {"checkpoint_every": 50, "sample_every": 70, "log_every": 7, "steps": 1_000_000}
WITHIN = 6.0  # seconds from the start of training
EARLY = (0.5, 8.0)  # the same from the start of the process; Python itself has begun by then
BOUND = 60.0


def main(count: int = 20, seed: int = 0) -> int:
    """Returns the number of signals after which something was lost."""
    return sum(_signalled(processes, count // 2, seed) for processes in (1, 2))


def early(count: int = 40, seed: int = 0) -> int:
    """Sends signals to one process that may not train yet; returns as `main`."""
    generator, lost = random.Random(seed), 0
    with tempfile.TemporaryDirectory() as folder:
        workdir, step = Path(folder) / "run", 0
        for _ in range(count):
            run = Run(workdir, 1, CHANGES)
            time.sleep(generator.uniform(*EARLY))
            number = generator.choice(SIGNALS)
            run.send(number, 0)
            (code,), _ = run.end(BOUND)
            before, step = step, _newest(workdir) if (workdir / "checkpoints").is_dir() else 0
            # Python may end with the signal of Ctrl-C, which shells report as 130.
            codes = {os.EX_TEMPFAIL} | ({130, -number} if number == signal.SIGINT else set())
            kept = code in codes and step >= before and "Traceback" not in run.output(0)
            lost += not kept
            print(f"{number.name}: {code}, step {step}", "" if kept else run.output(0)[-2000:])
    print(f"| a signal before or as training begins | {count} | {count - lost} | {lost} |")
    return lost


def _signalled(processes: int, count: int, seed: int) -> int:
    generator, lost, longest = random.Random(seed + processes), 0, 0.0
    with tempfile.TemporaryDirectory() as folder:
        workdir, step = Path(folder) / "run", 0
        for _ in range(count):
            run = Run(workdir, processes, CHANGES)
            run.wait_until_training()
            time.sleep(generator.uniform(0, WITHIN))
            number, index = generator.choice(SIGNALS), generator.randrange(processes)
            run.send(number, index)
            if generator.random() < 0.5:
                time.sleep(generator.uniform(0, 1))
                run.send(generator.choice((signal.SIGTERM, signal.SIGUSR1)), index)
            codes, seconds = run.end(BOUND)
            longest = max(longest, seconds)
            before, step = step, _stopped_at(run)
            kept = codes == [os.EX_TEMPFAIL] * processes and _newest(workdir) == step > before
            lost += not kept
            print(f"{number.name} to {index}: {codes} after {seconds:.1f} s, step {step}")
            if not kept:
                print(run.output(0)[-2000:], run.output(index)[-2000:])
    what = "one process" if processes == 1 else "two processes"
    print(
        f"| signals to {what}; longest wait {longest:.0f} s | {count} | {count - lost} | {lost} |"
    )
    return lost


def _stopped_at(run: Run) -> int:
    found = re.search(r"Interrupted after step (\d+) ", run.output(0))
    return int(found[1]) if found else -1


def _newest(workdir: Path) -> int:
    with Checkpoints(workdir / "checkpoints") as checkpoints:
        return checkpoints.newest()
