"""Initialization from the parameters of another run, where names and shapes agree."""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from diffusion_jax.diffusion.types import Leaf
from diffusion_jax.training.state import TrainState


@dataclass(frozen=True)
class Transfer:
    """Result of a transfer.

    Args:
        taken: names of the copied arrays.
        fresh: names and reasons of the arrays that keep their initial values.
        left_over: names of the other run's arrays that the network does not have.
    """

    taken: tuple[str, ...]
    fresh: tuple[str, ...]
    left_over: tuple[str, ...]

    def lines(self) -> list[str]:
        """Formats the counts, then one line for each array that was not copied."""
        lines = [f"{len(self.taken)} arrays of parameters taken over, {len(self.fresh)} fresh"]
        lines += [f"Stays fresh: {name}" for name in self.fresh]
        lines += [f"Left over: {name}" for name in self.left_over]
        return lines


def transfer(state: TrainState, params: PyTree) -> tuple[TrainState, Transfer]:
    """Replaces the parameters of the state by `params`, wherever name and shape agree.

    The EMA starts as a copy; the optimizer state stays fresh. Raises ValueError if nothing fits.
    """
    theirs = {_name(path): array for path, array in jax.tree.leaves_with_path(params)}
    taken, fresh = [], []

    def choose(path: tuple, own: Leaf) -> Leaf:
        name = _name(path)
        if name not in theirs:
            fresh.append(f"{name} {own.shape}, not in the other run")
            return own
        if theirs[name].shape != own.shape:
            fresh.append(f"{name} {own.shape}, {theirs[name].shape} in the other run")
            return own
        taken.append(name)
        return jnp.asarray(np.asarray(theirs[name]))

    merged = jax.tree.map_with_path(choose, state.params)
    ours = {_name(path) for path, _ in jax.tree.leaves_with_path(state.params)}
    left = [f"{name} {theirs[name].shape}" for name in sorted(theirs.keys() - ours)]
    if not taken:
        raise ValueError("No parameter has a name and shape of the network's own")
    new = replace(state, params=merged, ema_params=jax.tree.map(jnp.copy, merged))
    return new, Transfer(tuple(taken), tuple(fresh), tuple(left))


def _name(path: tuple) -> str:
    return "/".join(str(key.key) for key in path)
