"""The training loop: step after step, metrics, pictures and checkpoints in between."""

import time
from collections.abc import Callable, Iterator

import jax
import numpy as np
from jaxtyping import PyTree
from ml_collections import ConfigDict

from diffusion_jax import parallel
from diffusion_jax.training import metrics as step_metrics
from diffusion_jax.training.logging import Reporter
from diffusion_jax.training.metrics import Metrics, Running
from diffusion_jax.training.nan_guard import Recover, SkippedInARow, describe
from diffusion_jax.training.state import TrainState


def run_steps(
    config: ConfigDict,
    step: Callable[[TrainState, PyTree], tuple[TrainState, Metrics]],
    state: TrainState,
    data: Iterator[PyTree],
    draw: Callable[[TrainState], np.ndarray | None],
    save: Callable[[int, TrainState], None],
    report: Reporter,
    interrupted: Callable[[], bool],
    check_saved: Callable[[], None],
    recover: Recover,
    since_line: Running,
) -> TrainState:
    """Trains from state.step to config.steps, or until `interrupted`; returns the last state.

    step: as `parallel.data_parallel` returns it. data: batches of this process. draw: state ->
    picture, or None if what its average draws is not finite. save: writes a checkpoint of (step,
    state), or raises FloatingPointError if that is not finite. check_saved: raises an error if
    writing has failed. recover: called for a state that is not finite, and after
    config.max_nan_steps steps in a row that were skipped; between those, no checkpoint is written.
    since_line: the metrics since the last line of them. A picture of state.step that is due and was
    never drawn is drawn first. A run that is
    interrupted ends with a picture, too, once its checkpoint is saved.
    """
    first = int(state.step) + 1
    early = _after(60 * config.early_sample_minutes if first == 1 else 0.0)
    pending: tuple[int, Metrics] | None = None
    skipped = SkippedInARow()
    keep = False
    went_back = False  # to the state of a checkpoint, which is not saved again before a good step

    def read(number: int, metrics: Metrics) -> None:
        nonlocal state, went_back
        metrics = jax.device_get(metrics)
        now = step_metrics.means(metrics)
        skipped.add(metrics)
        if skipped.count:
            wrong = describe(metrics)
            report.say(f"Not finite at step {number}, which is skipped: {wrong}")
            metrics = step_metrics.without_losses(metrics)
        if skipped.count >= config.max_nan_steps:
            state = recover(number, state, wrong, skipped.count)
            skipped.count, went_back = 0, True
        elif not skipped.count:
            went_back = False
        report.advance(now["loss"])
        since_line.add(metrics)
        if number % config.log_every == 0 or number == config.steps:
            report.scalars(number, since_line.take())

    def shows(number: int) -> bool:
        return number % config.sample_every == 0 or number == config.steps

    def picture(number: int) -> None:
        drawn = draw(state)
        if drawn is None:
            report.say(f"No picture of step {number}: what the parameters draw is not finite")
        else:
            report.picture(number, drawn)

    if first > 1 and shows(first - 1) and report.lacks_picture(first - 1):
        picture(first - 1)

    for number in range(first, config.steps + 1):
        state, metrics = step(state, parallel.shard(report.next_of(data)))
        # The metrics of the step before are there by now, or soon: the device always has work.
        if pending:
            read(*pending)
        pending = number, metrics

        check_saved()
        stop = interrupted()
        keep |= stop or number % config.checkpoint_every == 0 or number == config.steps
        show = stop or shows(number) or early()
        if keep or show:
            read(*pending)
            pending = None
        if keep and not went_back and (not skipped.count or stop or number == config.steps):
            try:
                save(number, state)
            except FloatingPointError as error:
                state = recover(number, state, str(error).partition(";")[0], 0)
                went_back = True
            keep = False
        if show:
            picture(number)
            report.restart_clock()
        if stop:
            break
    return state


def _after(seconds: float) -> Callable[[], bool]:
    """A function that returns True once, so many seconds after its first call; 0: never.

    With several processes never, since their clocks differ and all must draw at the same step.
    """
    since = None
    done = not seconds or jax.process_count() > 1

    def passed() -> bool:
        nonlocal since, done
        now = time.monotonic()
        since = now if since is None else since
        due = not done and now >= since + seconds
        done |= due
        return due

    return passed
