"""Non-finite steps: skipped inside the compiled step, then counted, rolled back or an error."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, PyTree

from diffusion_jax.training.checkpoints import Checkpoints
from diffusion_jax.training.metrics import Metrics, means
from diffusion_jax.training.optimizers import count_updates
from diffusion_jax.training.restore import restore_newest
from diffusion_jax.training.sharding import Sharding
from diffusion_jax.training.state import TrainState

# (step, newest state, reason, consecutive skipped steps) -> the state to resume from. Raises
# FloatingPointError if the run has to stop.
Recover = Callable[[int, TrainState, str, int], TrainState]


def all_finite(tree: PyTree) -> Bool[Array, ""]:
    """True if each number in the tree is finite."""
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]))


def select(good: Bool[Array, ""], new: PyTree, old: PyTree) -> PyTree:
    """Returns new if good, else old."""
    return jax.tree.map(lambda a, b: jnp.where(good, a, b), new, old)


class ConsecutiveSkips:
    """Number of consecutive skipped steps before now."""

    def __init__(self) -> None:
        self.count = 0

    def add(self, metrics: Metrics) -> None:
        """Counts one more step, given its metrics on the host."""
        self.count = self.count + 1 if float(metrics["skipped"].total) else 0


def describe(metrics: Metrics) -> str:
    """Formats the metrics of a skipped step, such as "loss inf, gradient_norm nan"."""
    values = {name: value for name, value in means(metrics).items() if name != "skipped"}
    return ", ".join(f"{name} {value:.3g}" for name, value in values.items())


class Rollback:
    """Rollback to the newest readable checkpoint, or an error that names the remedy.

    The step counter is not rolled back, so that the next steps have other data and noise than the
    failed ones. A checkpoint serves one rollback.

    Args:
        checkpoints: checkpoints of the run.
        roll_back: False raises FloatingPointError at once.
        learning_rate: number of updates -> learning rate, for the error.
        shapes: () -> shapes of the full state.
        sharding: sharding of the state.
        log: prints a line.
    """

    def __init__(
        self,
        checkpoints: Checkpoints,
        *,
        roll_back: bool,
        learning_rate: Callable[[Any], Any],
        shapes: Callable[[], TrainState],
        sharding: Sharding,
        log: Callable[[str], None],
    ):
        self._checkpoints = checkpoints
        self._roll_back = roll_back
        self._learning_rate = learning_rate
        self._shapes = shapes
        self._sharding = sharding
        self._log = log
        self._used: set[int] = set()

    def __call__(self, number: int, state: TrainState, reason: str, consecutive: int) -> TrainState:
        """Returns the restored state, at the step of `state`.

        Args:
            number: the step after which the run cannot continue.
            state: the newest state, after `number` or the next step; its step counter is kept.
            reason: names and values of the metrics that are not finite.
            consecutive: number of consecutive skipped steps, 0 if the state itself is not finite.

        Raises FloatingPointError if the run has to stop.
        """
        self._checkpoints.wait()
        newest = max(self._checkpoints.steps(), default=None)
        if not self._roll_back or newest is None or newest in self._used:
            in_a_row = f", {consecutive} in a row" if consecutive else ""
            raise FloatingPointError(
                f"Not finite at step {number}{in_a_row}: {reason}; {self._remedy(newest, state)}"
            )
        restored, _, lines = restore_newest(self._checkpoints, self._shapes())
        self._used |= {newest, int(restored.step)}
        back = f"Rolled back after step {number} to the checkpoint of step {int(restored.step)}"
        for line in [*lines, back]:
            self._log(line)
        return self._sharding.place(replace(restored, step=np.array(state.step)))

    def _remedy(self, newest: int | None, state: TrainState) -> str:
        updates = count_updates(state.opt_state)
        last, then = "there is no checkpoint yet", "start again"
        if newest is not None:
            last = f"the last good checkpoint in {self._checkpoints.folder} is of step {newest}"
            then = "continue"
        return (
            f"the learning rate is {float(self._learning_rate(updates)):.3g}, and {last}. To "
            f"{then}, give a lower --config.optimizer.learning_rate, or "
            "--config.optimizer.clip_norm=1"
        )
