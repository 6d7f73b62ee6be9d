"""Output of a training run: progress bar, TensorBoard, metrics file, loss curve, sample grids."""

import errno
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from diffusion_jax import images, parallel
from diffusion_jax.files import atomic, json_files
from diffusion_jax.training.tensorboard import EventFile

METRICS_FILE = "metrics.jsonl"
LONGEST_LINE = 2**20  # bytes; longer lines are damage
LOSS_CURVE = "loss.png"
SAMPLES = "samples"


class Reporter:
    """Progress, metrics and sample grids of a run; a context manager.

    A file that cannot be written, as on a full disk, is left out, with one warning for each kind.

    Args:
        workdir: of the run.
        start_step: first step. Later steps of an earlier run are removed from the metrics file, so
            that it has each step once.
        steps: last step.
        batch_size: images in each step.
        begun: start of the run, by `time.monotonic`.
        write: False in all processes but the first.
    """

    def __init__(
        self,
        workdir: Path,
        *,
        start_step: int,
        steps: int,
        batch_size: int,
        begun: float,
        write: bool,
    ):
        self.workdir = workdir
        self.write = write
        self.batch_size = batch_size
        self._steps_since = 0
        self._logged_time_left = False
        self._failed: set[str] = set()
        self._event_file: EventFile | None = None
        self._started = False
        self._begun = begun
        self._since = time.monotonic()
        self._waited = 0.0
        self._bar = tqdm(total=steps, initial=start_step, unit="step", disable=not write)
        if write:
            with self._warning("metrics"):
                _drop_after(workdir, start_step)
            with self._warning("TensorBoard's file"):
                self._event_file = EventFile(workdir / "tensorboard", start_step=start_step + 1)

    def __enter__(self) -> "Reporter":
        return self

    def __exit__(self, *exception: Any) -> None:
        self._bar.close()
        if self.write:
            with self._warning("TensorBoard's file"):
                if self._event_file:
                    self._event_file.close()
            self._plot_loss_curve()

    def advance(self, loss: float, learning_rate: float) -> None:
        """Advances the progress bar by one step."""
        first, self._started = not self._started, True
        if first:  # its time includes compilation
            self._bar.unpause()
        self._steps_since += 1
        speed = self._images_per_second()
        text = f"loss {loss:.4f}, learning rate {learning_rate:.3g}, {speed:.0f} images/s"
        self._bar.set_postfix_str(text, refresh=False)
        self._bar.update()
        if first:
            self.restart_timer()
            self.log(f"First step after {time.monotonic() - self._begun:.1f} seconds")

    def next_batch(self, data: Iterator[Any]) -> Any:
        """Returns the next batch, and measures the time spent waiting for data."""
        since = time.monotonic()
        batch = next(data)
        self._waited += time.monotonic() - since
        return batch

    def log(self, text: str) -> None:
        """Prints a line above the bar."""
        if self.write:
            self._bar.write(text)

    def restart_timer(self) -> None:
        """Keeps compilation and sampling out of the images per second."""
        self._since = time.monotonic()
        self._steps_since, self._waited = 0, 0.0

    def write_metrics(self, step: int, values: dict[str, float]) -> None:
        """Writes a line of metrics, with the speed and the share of time spent waiting for data."""
        if not self.write:
            return
        if self._steps_since:
            share = self._waited / max(time.monotonic() - self._since, 1e-9)
            speed = self._images_per_second()
            values = {**values, "images_per_second": speed, "waiting_for_data": share}
            self._log_time_left(step, values["images_per_second"])
        self.restart_timer()
        with self._warning("TensorBoard's file"):
            if self._event_file:
                for name, value in values.items():
                    self._event_file.scalar(name, value, step)
        with self._warning("metrics"):
            line = json.dumps({"step": step, **values}) + "\n"
            _append(self.workdir / METRICS_FILE, line.encode())

    def sample_grid(self, step: int, grid: np.ndarray) -> None:
        """Writes a sample grid and redraws the loss curve."""
        if not self.write:
            return
        path = self._sample_grid_file(step)
        with self._warning("sample grids"):
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic.replacing(path) as partial:
                images.save_png(partial, grid)
        with self._warning("TensorBoard's file"):
            if self._event_file:
                self._event_file.image("samples", grid, step)
                self._event_file.flush()
        self._plot_loss_curve()

    def _plot_loss_curve(self) -> None:
        with self._warning("the loss curve"):
            plot_loss_curve(self.workdir)

    def sample_grid_missing(self, step: int) -> bool:
        """True if the sample grid of this step is missing on the disk of process 0."""
        return parallel.broadcast_flag(not self._sample_grid_file(step).exists())

    def _sample_grid_file(self, step: int) -> Path:
        return self.workdir / SAMPLES / f"step_{step:07d}.png"

    @contextmanager
    def _warning(self, what: str) -> Iterator[None]:
        """Turns a file system error into one line for each kind of file."""
        try:
            yield
        except OSError as error:
            if what not in self._failed:
                self.log(f"Warning: {what} of {self.workdir} cannot be written ({error.strerror})")
            self._failed.add(what)

    def _log_time_left(self, step: int, speed: float) -> None:
        """Prints the remaining time once, if it is minutes."""
        left = (self._bar.total - step) * self.batch_size / speed
        if not self._logged_time_left and left > 60:
            length = f"{left / 60:.0f} minutes" if left < 5400 else f"{left / 3600:.1f} hours"
            self.log(f"{speed:.0f} images a second here: about {length} to step {self._bar.total}")
        self._logged_time_left = True

    def _images_per_second(self) -> float:
        return self._steps_since * self.batch_size / max(time.monotonic() - self._since, 1e-9)


def _append(path: Path, line: bytes) -> None:
    """Appends a line, whole or not at all. Raises OSError."""
    with path.open("ab", buffering=0) as file:
        whole = file.seek(0, os.SEEK_END)
        written = 0
        try:
            written = file.write(line)
        finally:
            if written < len(line):
                file.truncate(whole)
    if written < len(line):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def plot_loss_curve(workdir: Path) -> None:
    """Plots the losses and the learning rate in the metrics file to loss.png, if there are any."""
    lines = read_metrics(workdir)
    if not lines:
        return
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    steps = [line["step"] for line in lines]
    for name in ("loss", "simple", "vlb"):
        if any(name in line for line in lines):
            values = [line.get(name, np.nan) for line in lines]
            axes.plot(steps, values, label=name, linewidth=1)
    axes.set(xlabel="step", ylabel="mean over the examples", yscale="log")
    if axes.lines:  # none if all steps were skipped
        axes.legend()
    axes.grid(alpha=0.3)
    rates = [line.get("learning_rate") for line in lines]
    rates = [rate if isinstance(rate, float) else np.nan for rate in rates]
    if np.isfinite(rates).any():
        right = axes.twinx()
        right.plot(steps, rates, color="gray", linestyle="dotted", linewidth=1)
        right.set(ylabel="learning rate (dotted)", ylim=(0, None))
    figure.savefig(workdir / LOSS_CURVE, dpi=120)
    plt.close(figure)


def read_metrics(workdir: Path) -> list[dict[str, Any]]:
    """Reads the metrics file, oldest step first, skipping damaged lines."""
    path = workdir / METRICS_FILE
    lines = []
    for text in _lines(path) if path.exists() else ():
        try:
            line = json_files.parse(text)
        except ValueError:  # half a line, from a process that was killed
            continue
        if isinstance(line, dict) and type(line.get("step")) is int:
            lines.append(line)
    return lines


def _lines(path: Path) -> Iterator[bytes]:
    """Yields the lines of a file, skipping those longer than LONGEST_LINE."""
    with path.open("rb") as file:
        whole = True  # the previous read ended a line
        while text := file.readline(LONGEST_LINE):
            ends = text.endswith(b"\n")
            if whole and (ends or len(text) < LONGEST_LINE):
                yield text
            whole = ends


def _drop_after(workdir: Path, step: int) -> None:
    lines = [json.dumps(line) for line in read_metrics(workdir) if line["step"] <= step]
    atomic.write_text(workdir / METRICS_FILE, "".join(line + "\n" for line in lines))
