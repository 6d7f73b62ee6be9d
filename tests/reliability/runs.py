"""Runs of the training script that are killed, signalled and compared."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import quick

from diffusion_jax.files import lock
from diffusion_jax.training.checkpoints import Checkpoints
from diffusion_jax.training.logging import read_metrics

ROOT = Path(__file__).parent.parent.parent
SMALL = {
    "model.width": 8,
    "model.depth": 1,
    "model.num_heads": 2,
    "model.patch_size": 4,
    "optimizer.warmup_steps": 1,
    "batch_size": 4,
    "sampling.steps": 2,
    "sampling.grid_columns": 1,
    "log_every": 1,
}


class Run:
    """The training script, in one or more processes; their output is kept beside the workdir.

    changes: fields of the config.
    """

    def __init__(self, workdir: Path, processes: int, changes: dict[str, Any]):
        self.workdir = workdir
        command = [sys.executable, "-m", "scripts.train", "--config=configs/digits_dit.py"]
        command += [f"--config.{field}={value}" for field, value in (SMALL | changes).items()]
        command += [f"--workdir={workdir}"]
        if processes > 1:
            command += [f"--coordinator={_free_address()}", f"--num_processes={processes}"]
        self.outputs = [
            workdir.with_name(f"{workdir.name}.{index}.txt") for index in range(processes)
        ]
        self.processes = [
            subprocess.Popen(
                [*command, *([f"--process_id={index}"] if processes > 1 else [])],
                cwd=ROOT,
                env=os.environ | {"XLA_FLAGS": quick.flags(1)},
                stdout=output.open("w"),
                stderr=subprocess.STDOUT,
            )
            for index, output in enumerate(self.outputs)
        ]

    def wait_until_training(self) -> None:
        """Waits until process 0 is in `train`, where it handles signals."""
        holder = f"process {self.processes[0].pid} "
        path = self.workdir / lock.FILE
        self._wait_until(lambda: path.exists() and path.read_text().startswith(holder))

    def wait_for_lines(self, count: int) -> None:
        """Waits until the metrics have this number of lines."""
        self._wait_until(lambda: len(read_metrics(self.workdir)) >= count)

    def send(self, number: signal.Signals, index: int) -> None:
        self.processes[index].send_signal(number)

    def end(self, seconds: float = 120) -> tuple[list[int], float]:
        """Returns (exit codes, seconds) at the end; kills a process at the timeout (code -9)."""
        start = time.monotonic()
        for process in self.processes:
            try:
                process.wait(max(start + seconds - time.monotonic(), 0.1))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        return [process.returncode for process in self.processes], time.monotonic() - start

    def output(self, index: int) -> str:
        return self.outputs[index].read_text()

    def _wait_until(self, condition: Any, seconds: float = 120) -> None:
        end = time.monotonic() + seconds
        while not condition():
            ended = [process.poll() for process in self.processes]
            if time.monotonic() > end or any(code is not None for code in ended):
                self.end(0)
                raise AssertionError(f"{ended}: {self.output(0)[-3000:]}")
            time.sleep(0.02)


def results_of(workdir: Path) -> tuple[list, dict, dict]:
    """Returns (metrics without times, sample grids, metadata of each checkpoint)."""
    lines = read_metrics(workdir)
    for line in lines:
        line.pop("images_per_second", None)
        line.pop("waiting_for_data", None)
    grids = {path.name: path.read_bytes() for path in (workdir / "samples").glob("*.png")}
    with Checkpoints(workdir / "checkpoints") as checkpoints:
        return lines, grids, {step: checkpoints.metadata(step) for step in checkpoints.steps()}


def _free_address() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"
