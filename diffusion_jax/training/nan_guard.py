"""Steps that are left out because something in them is not finite."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, PyTree

from diffusion_jax.training.metrics import Metrics, means
from diffusion_jax.training.state import TrainState

# (step, state after it, what is wrong, how many steps in a row were skipped) -> the state to go on
# with, or FloatingPointError.
Recover = Callable[[int, TrainState, str, int], TrainState]


def all_finite(tree: PyTree) -> Bool[Array, ""]:
    """Whether each number in the tree is finite."""
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]))


def select(good: Bool[Array, ""], new: PyTree, old: PyTree) -> PyTree:
    """new if good, else old."""
    return jax.tree.map(lambda a, b: jnp.where(good, a, b), new, old)


class SkippedInARow:
    """How many of the last steps were skipped, one after the other."""

    def __init__(self) -> None:
        self.count = 0

    def add(self, metrics: Metrics) -> None:
        """Counts one more step, whose metrics are on the host."""
        self.count = self.count + 1 if float(metrics["skipped"].total) else 0


def what_is_wrong(metrics: Metrics) -> str:
    """The numbers of a step that was skipped."""
    values = {name: value for name, value in means(metrics).items() if name != "skipped"}
    return ", ".join(f"{name} {value:.3g}" for name, value in values.items())
