"""The training loop: steps, and the metrics, sample grids and checkpoints between them."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import jax
import numpy as np
from jaxtyping import PyTree

from diffusion_jax import parallel
from diffusion_jax.training import metrics as step_metrics
from diffusion_jax.training.logging import Reporter
from diffusion_jax.training.metrics import Metrics, Running
from diffusion_jax.training.nan_guard import Recover, SkippedInARow, describe
from diffusion_jax.training.state import TrainState


@dataclass(frozen=True)
class LoopSettings:
    """Numbers of the training loop, named as in the config. Raises ValueError out of range.

    Args:
        steps: updates of the whole run.
        batch_size: images of an update, on all devices.
        micro_batches: parts in which a batch is computed.
        log_every: steps between lines of metrics.
        sample_every: steps between sample grids.
        early_sample_minutes: minutes after which one extra grid is sampled; None for none.
        checkpoint_every: steps between checkpoints.
        keep_latest: number of checkpoints to keep.
        keep_every: checkpoints of multiples of this step are always kept; None for none.
        max_nan_steps: non-finite steps in a row after which the run stops or rolls back.
        roll_back: True to continue from the newest checkpoint then.
    """

    steps: int
    batch_size: int
    micro_batches: int
    log_every: int
    sample_every: int
    early_sample_minutes: float | None
    checkpoint_every: int
    keep_latest: int
    keep_every: int | None
    max_nan_steps: int
    roll_back: bool

    def __post_init__(self) -> None:
        for name in [
            "steps",
            "batch_size",
            "micro_batches",
            "log_every",
            "sample_every",
            "checkpoint_every",
            "keep_latest",
            "keep_every",
            "max_nan_steps",
        ]:
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name}={value} must be at least 1")
        minutes = self.early_sample_minutes
        if minutes is not None and minutes <= 0:
            raise ValueError(f"early_sample_minutes={minutes} must be positive, or None")
        if self.batch_size % self.micro_batches:
            raise ValueError(
                f"batch_size={self.batch_size} is not divisible by "
                f"micro_batches={self.micro_batches}"
            )


@dataclass(frozen=True)
class TrainingLoop:
    """Trains until settings.steps, or until interrupted.

    Args:
        settings: the numbers of the loop.
        step: as `parallel.data_parallel` returns it.
        batches: of this process.
        reporter: progress bar and metrics.
        since_line: the metrics since their last line.
        sample_grid: state -> image; None if what its EMA samples is not finite.
        save: writes a checkpoint of (step, state); raises FloatingPointError unless it is finite.
        check_saved: raises an error if the last checkpoint could not be written.
        recover: called for a state that is not finite, and after settings.max_nan_steps skipped
            steps in a row. No checkpoint is written after a skipped step, except at the last step
            or an interrupt.
        interrupted: () -> True once the run has to stop.
    """

    settings: LoopSettings
    step: Callable[[TrainState, PyTree], tuple[TrainState, Metrics]]
    batches: Iterator[PyTree]
    reporter: Reporter
    since_line: Running
    sample_grid: Callable[[TrainState], np.ndarray | None]
    save: Callable[[int, TrainState], None]
    check_saved: Callable[[], None]
    recover: Recover
    interrupted: Callable[[], bool]

    def run(self, state: TrainState) -> TrainState:
        """Returns the state after the last step.

        A grid of state.step that is due and missing is sampled first. A run that is interrupted
        ends with a grid, too, once its checkpoint is saved; a second Ctrl-C skips the grid.
        """
        settings = self.settings
        first = int(state.step) + 1
        early = _after(settings.early_sample_minutes if first == 1 else None)
        skipped = SkippedInARow()
        pending: tuple[int, Metrics] | None = None
        keep = False
        hurried = False  # by a second Ctrl-C
        rolled_back = False  # to a checkpoint, which is not saved again before a good step

        def read_metrics(number: int, metrics: Metrics) -> None:
            nonlocal state, rolled_back
            metrics = jax.device_get(metrics)
            loss = step_metrics.means(metrics)["loss"]
            skipped.add(metrics)
            if skipped.count:
                wrong = describe(metrics)
                self.reporter.log(f"Not finite at step {number}, which is skipped: {wrong}")
                metrics = step_metrics.without_losses(metrics)
            if skipped.count >= settings.max_nan_steps:
                state = self.recover(number, state, wrong, skipped.count)
                skipped.count, rolled_back = 0, True
            elif not skipped.count:
                rolled_back = False
            self.reporter.advance(loss)
            self.since_line.add(metrics)
            if number % settings.log_every == 0 or number == settings.steps:
                self.reporter.scalars(number, self.since_line.take())

        if first > 1 and self._samples_at(first - 1) and self.reporter.lacks_sample_grid(first - 1):
            self._sample(first - 1, state)

        for number in range(first, settings.steps + 1):
            batch = parallel.shard(self.reporter.next_batch(self.batches))
            state, metrics = self.step(state, batch)
            # The metrics of the step before are read while the device computes this one.
            if pending:
                read_metrics(*pending)
            pending = number, metrics

            self.check_saved()
            stop, last = self.interrupted(), number == settings.steps
            keep |= stop or last or number % settings.checkpoint_every == 0
            sample = stop or self._samples_at(number) or early()
            if keep or sample:
                read_metrics(*pending)
                pending = None
            if keep and not rolled_back and (not skipped.count or stop or last):
                try:
                    self.save(number, state)
                except FloatingPointError as error:
                    state = self.recover(number, state, str(error).partition(";")[0], 0)
                    rolled_back = True
                keep = False
            if sample and not hurried:
                try:
                    self._sample(number, state)
                except KeyboardInterrupt:  # a second Ctrl-C
                    if jax.process_count() > 1:  # the others wait for this one in the sampler
                        raise
                    hurried = True
                    self.reporter.log(f"The samples of step {number} are skipped")
                self.reporter.restart_timer()
            if stop:
                break
        return state

    def _samples_at(self, number: int) -> bool:
        return number % self.settings.sample_every == 0 or number == self.settings.steps

    def _sample(self, number: int, state: TrainState) -> None:
        grid = self.sample_grid(state)
        if grid is None:
            self.reporter.log(f"No samples of step {number}: they are not finite")
        else:
            self.reporter.sample_grid(number, grid)


def _after(minutes: float | None) -> Callable[[], bool]:
    """Returns a function that is True once, when this time has passed since its first call.

    With several processes it never is: their timers differ, and all must sample at the same step.
    """
    since = None
    done = minutes is None or jax.process_count() > 1

    def passed() -> bool:
        nonlocal since, done
        now = time.monotonic()
        since = now if since is None else since
        due = minutes is not None and not done and now >= since + 60 * minutes
        done |= due
        return due

    return passed
