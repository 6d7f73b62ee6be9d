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
        copied: names of the copied arrays.
        initialized: names of the arrays that keep their initial values, with the reason.
        unused: names of the other run's arrays that the network does not have.
    """

    copied: tuple[str, ...]
    initialized: tuple[str, ...]
    unused: tuple[str, ...]

    def lines(self) -> list[str]:
        """Formats the counts, then one line for each array that was not copied."""
        lines = [f"{len(self.copied)} parameter arrays copied, {len(self.initialized)} initialized"]
        lines += [f"Initialized: {name}" for name in self.initialized]
        lines += [f"Unused: {name}" for name in self.unused]
        return lines


def transfer(state: TrainState, params: PyTree) -> tuple[TrainState, Transfer]:
    """Replaces the parameters of the state by `params`, wherever name and shape agree.

    The EMA starts as a copy; the optimizer state is unchanged. Raises ValueError if nothing fits.
    """
    theirs = {_name(path): array for path, array in jax.tree.leaves_with_path(params)}
    copied, initialized = [], []

    def choose(path: tuple, own: Leaf) -> Leaf:
        name = _name(path)
        if name not in theirs:
            initialized.append(f"{name} {own.shape}, not in the other run")
            return own
        if theirs[name].shape != own.shape:
            initialized.append(f"{name} {own.shape}, {theirs[name].shape} in the other run")
            return own
        copied.append(name)
        return jnp.asarray(np.asarray(theirs[name]))

    merged = jax.tree.map_with_path(choose, state.params)
    ours = {_name(path) for path, _ in jax.tree.leaves_with_path(state.params)}
    unused = [f"{name} {theirs[name].shape}" for name in sorted(theirs.keys() - ours)]
    if not copied:
        raise ValueError("No parameter has a name and shape of the network's own")
    new = replace(state, params=merged, ema_params=jax.tree.map(jnp.copy, merged))
    return new, Transfer(tuple(copied), tuple(initialized), tuple(unused))


def _name(path: tuple) -> str:
    return "/".join(str(key.key) for key in path)
