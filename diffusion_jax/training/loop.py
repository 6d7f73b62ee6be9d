"""The training loop: steps, and the metrics, sample grids and checkpoints between them."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import jax
import numpy as np
from jaxtyping import Float, PyTree

from diffusion_jax import parallel
from diffusion_jax.training import metrics as step_metrics
from diffusion_jax.training.logging import Reporter
from diffusion_jax.training.metrics import Metrics, RunningMeans
from diffusion_jax.training.nan_guard import ConsecutiveSkips, Recover, describe
from diffusion_jax.training.optimizers import count_updates
from diffusion_jax.training.preemption import Interruption
from diffusion_jax.training.state import TrainState


@dataclass(frozen=True)
class LoopSettings:
    """Numbers of the training loop, named as in the config. Raises ValueError if out of range.

    Args:
        steps: number of updates of the whole run.
        batch_size: images per update, over all devices.
        micro_batches: parts of a batch for gradient accumulation.
        log_every: steps between lines of metrics.
        sample_every: steps between sample grids.
        early_sample_minutes: minutes until one extra sample grid; None for no extra grid.
        checkpoint_every: steps between checkpoints.
        keep_latest: number of newest checkpoints to keep.
        keep_every: keeps every checkpoint whose step is a multiple of this; None for none.
        max_nan_steps: consecutive non-finite steps after which the run stops or rolls back.
        roll_back: True to roll back to the newest checkpoint, False to stop.
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
    """Training loop, until settings.steps or an interrupt.

    Args:
        settings: numbers of the loop.
        step: the training step on all devices, a result of `parallel.data_parallel`.
        batches: this process's rows of the batches.
        reporter: progress bar, metrics file and sample grid files.
        running_metrics: means since the last line of metrics.
        learning_rates: learning rate by the number of updates made before; for the metrics alone.
        sample_grid: state -> uint8 image of EMA samples; None if they are not finite.
        save: (step, state) -> None, writes a checkpoint; raises FloatingPointError unless the state
            is finite.
        check_saved: raises an error if the last checkpoint could not be written.
        recover: called for a state that is not finite, and after settings.max_nan_steps consecutive
            skipped steps.
        interrupted: the signals received.

    No checkpoint is written after a skipped step, except at the last step or an interrupt.
    """

    settings: LoopSettings
    step: Callable[[TrainState, PyTree], tuple[TrainState, Metrics]]
    batches: Iterator[PyTree]
    reporter: Reporter
    running_metrics: RunningMeans
    learning_rates: Float[np.ndarray, "count"]
    sample_grid: Callable[[TrainState], np.ndarray | None]
    save: Callable[[int, TrainState], None]
    check_saved: Callable[[], None]
    recover: Recover
    interrupted: Interruption

    def run(self, state: TrainState) -> TrainState:
        """Trains, and returns the state after the last step.

        A resumed run first samples the grid of its checkpoint's step if it is due and missing. An
        interrupted run saves a checkpoint, then samples a grid; a second Ctrl-C skips the grid.
        """
        settings = self.settings
        first = int(state.step) + 1
        updates = count_updates(state.opt_state)
        early_sample_due = _true_once_after(settings.early_sample_minutes if first == 1 else None)
        skipped = ConsecutiveSkips()
        pending: tuple[int, Metrics] | None = None
        checkpoint_due = False
        rolled_back = False  # True until a finite step: the checkpoint is not saved again

        def process_metrics(number: int, metrics: Metrics) -> None:
            """Logs the metrics of a step, and rolls back if there are too many skipped steps."""
            nonlocal state, rolled_back, updates
            metrics = jax.device_get(metrics)
            loss = step_metrics.means(metrics)["loss"]
            skipped.add(metrics)
            rate = float(self.learning_rates[min(updates, len(self.learning_rates) - 1)])
            updates += not skipped.count
            if skipped.count:
                reason = describe(metrics)
                self.reporter.log(f"Step {number} is not finite and is skipped: {reason}")
                metrics = step_metrics.without_losses(metrics)
            if skipped.count >= settings.max_nan_steps:
                state = self.recover(number, state, reason, skipped.count)
                skipped.count, rolled_back = 0, True
                updates = count_updates(state.opt_state)
            elif not skipped.count:
                rolled_back = False
            self.reporter.advance(loss, rate)
            self.running_metrics.add(metrics)
            if number % settings.log_every == 0 or number == settings.steps:
                means = self.running_metrics.take()
                self.reporter.write_metrics(number, {**means, "learning_rate": rate})

        resumed = first - 1
        if resumed and self._samples_at(resumed) and self.reporter.sample_grid_missing(resumed):
            self._sample(resumed, state)

        for number in range(first, settings.steps + 1):
            batch = parallel.shard(self.reporter.next_batch(self.batches))
            state, metrics = self.step(state, batch)
            # While the device computes this step, the host reads the metrics of the one before.
            if pending:
                process_metrics(*pending)
            pending = number, metrics

            self.check_saved()
            stop, last = self.interrupted(), number == settings.steps
            checkpoint_due |= stop or last or number % settings.checkpoint_every == 0
            sample_due = stop or self._samples_at(number) or early_sample_due()
            if checkpoint_due or sample_due:
                process_metrics(*pending)
                pending = None
            if checkpoint_due and not rolled_back and (not skipped.count or stop or last):
                try:
                    self.save(number, state)
                except FloatingPointError as error:
                    state = self.recover(number, state, str(error).partition(";")[0], 0)
                    rolled_back = True
                checkpoint_due = False
            if sample_due:
                self._sample(number, state)
                self.reporter.restart_timer()
            if stop:
                break
        return state

    def _samples_at(self, number: int) -> bool:
        return number % self.settings.sample_every == 0 or number == self.settings.steps

    def _sample(self, number: int, state: TrainState) -> None:
        try:
            if self.interrupted.hurried:
                raise KeyboardInterrupt
            with self.interrupted.skippable():
                grid = self.sample_grid(state)
        except KeyboardInterrupt:
            if not self.interrupted.hurried:
                raise
            self.reporter.log(f"The samples of step {number} are skipped")
            return
        if grid is None:
            self.reporter.log(f"No samples of step {number}: they are not finite")
        else:
            self.reporter.sample_grid(number, grid)


def _true_once_after(minutes: float | None) -> Callable[[], bool]:
    """Returns a function that returns True once, when this time has passed since its first call.

    With several processes it returns False, since their timers differ and all have to sample at
    the same step.
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
