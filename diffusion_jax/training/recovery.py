"""What a run does after too many steps that are not finite."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import optax
from ml_collections import ConfigDict

from diffusion_jax.config import build
from diffusion_jax.training.checkpoints import Checkpoints
from diffusion_jax.training.restore import restore_newest
from diffusion_jax.training.sharding import Sharding
from diffusion_jax.training.state import TrainState


class Recovery:
    """Stops the run, or, if config.roll_back, goes back to the state of the newest checkpoint.

    Or of the newest that can be read. What was done since is as if it had been skipped: the number
    of steps goes on, and with it the data and the noise are others. From one checkpoint a run goes
    on once.
    """

    def __init__(
        self,
        config: ConfigDict,
        checkpoints: Checkpoints,
        say: Callable[[str], None],
        shapes: Callable[[], TrainState],
        sharding: Sharding,
    ):
        """shapes: of the whole state; computed when they are needed."""
        self._shapes = shapes
        self._placement = sharding
        self._config = config
        self._checkpoints = checkpoints
        self._say = say
        self._used: set[int] = set()

    def __call__(self, number: int, state: TrainState, wrong: str, in_a_row: int) -> TrainState:
        """The state to go on with after step `number`, at the step that `state` has.

        wrong: what is not finite in that step, or after it. in_a_row: how many steps were skipped
        by now. Raises FloatingPointError if the run has to stop.
        """
        self._checkpoints.wait()
        newest = max(self._checkpoints.steps(), default=None)
        if not self._config.roll_back or newest is None or newest in self._used:
            more = f", {in_a_row} in a row by now" if in_a_row else ""
            wrong = f"Not finite at step {number}{more}: {wrong}"
            raise FloatingPointError(self._why_it_stops(newest, wrong, state))
        restored, _, news = restore_newest(self._checkpoints, self._shapes())
        self._used |= {newest, int(restored.step)}
        for line in [*news, f"Back to the state of step {int(restored.step)}, after step {number}"]:
            self._say(line)
        return self._placement.place(replace(restored, step=np.array(state.step)))

    def _why_it_stops(self, newest: int | None, wrong: str, state: TrainState) -> str:
        updates = optax.tree.get_all_with_path(state.opt_state, "count")[0][1]
        rate = build.make_learning_rate(self._config)(updates)
        last, then = "there is no checkpoint yet", "begin again"
        if newest is not None:
            last = f"the last good checkpoint in {self._checkpoints.folder} is of step {newest}"
            then = "go on"
        return (
            f"{wrong}; the learning rate is {float(rate):.3g}, and {last}. To {then}, give a lower "
            "--config.optimizer.learning_rate, or --config.optimizer.clip_norm=1"
        )
