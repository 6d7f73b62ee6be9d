"""Timestep sampling and importance weights.

"Improved DDPM" is arXiv:2102.09672.
"""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from diffusion_jax.diffusion.checks import check_range
from diffusion_jax.diffusion.schedules import Schedule
from diffusion_jax.diffusion.types import Keys, Leaf, PerExample, Timesteps


@dataclass(frozen=True)
class TimestepSampler:
    """The distribution of timesteps, or of the levels of a continuous schedule, in training.

    Args:
        init: () -> initial loss history; None without one.
        draw: (keys, history) -> (positions in the schedule, importance weights), (batch,) each.
        update: (history, positions, losses) -> history; gets the global batch.
        part: term of the loss that the history records, "loss" or "vlb".
    """

    init: Callable[[], PyTree]
    draw: Callable[[Keys, PyTree], tuple[Leaf, PerExample]]
    update: Callable[[PyTree, Leaf, PerExample], PyTree]
    part: str = "loss"


def uniform(schedule: Schedule) -> TimestepSampler:
    """Returns the distribution of the schedule itself; all importance weights are 1."""
    return TimestepSampler(
        init=lambda: None,
        draw=lambda keys, history: (schedule.draw(keys), jnp.ones(keys.shape)),
        update=lambda history, positions, losses: history,
    )


def loss_second_moment(
    schedule: Schedule,
    *,
    memory: int = 10,
    uniform_part: float = 0.001,
    part: str = "loss",
    reweight: bool = True,
) -> TimestepSampler:
    """Returns p_t proportional to sqrt(E[L_t^2]), with weights 1 / (T p_t). Improved DDPM, eq. 18.

    Args:
        memory: number of the last losses of each t whose mean square estimates E[L_t^2]. Until all
            t have that many, t is uniform.
        uniform_part: probability of a uniform t, in [0, 1].
        part: L_t, "loss" or "vlb".
        reweight: False sets the weights to 1, as gmongaras/Diffusion_models_from_scratch does; this
            minimizes another loss.

    Raises:
        ValueError: for a continuous schedule, and for options out of range.
    """
    if schedule.num_steps is None:
        raise ValueError("loss_second_moment needs a discrete schedule; this one is continuous")
    if memory < 1:
        raise ValueError(f"memory={memory} must be at least 1")
    check_range("uniform_part", uniform_part, 0, 1)
    if part not in ("loss", "vlb"):
        raise ValueError(f"part={part} must be loss or vlb")
    count = schedule.num_steps

    def init() -> PyTree:
        return {"losses": jnp.zeros((count, memory)), "seen": jnp.zeros((count,), jnp.int32)}

    def draw(keys: Keys, history: PyTree) -> tuple[Timesteps, PerExample]:
        root = jnp.sqrt(jnp.mean(jnp.square(history["losses"]), axis=1))
        by_loss = root / jnp.sum(root) * (1 - uniform_part) + uniform_part / count
        known = jnp.all(history["seen"] >= memory)
        p = jnp.where(known, by_loss, 1 / count)
        index = jax.vmap(lambda key: jax.random.categorical(key, jnp.log(p)))(keys)
        weights = 1 / (count * p[index])
        return index + 1, weights if reweight else jnp.ones_like(weights)

    def update(history: PyTree, t: Timesteps, losses: PerExample) -> PyTree:
        index = t - 1
        same = index[:, None] == index[None, :]
        # Number of earlier examples of the batch with the same t.
        rank = jnp.sum(jnp.tril(same, -1), axis=1)
        place = (history["seen"][index] + rank) % memory
        # Losses that later ones of the same batch would overwrite are dropped.
        kept = rank >= jnp.sum(same, axis=1) - memory
        row = jnp.where(kept, index, count)
        return {
            "losses": history["losses"].at[row, place].set(losses, mode="drop"),
            "seen": history["seen"].at[index].add(1),
        }

    return TimestepSampler(init, draw, update, part)


# The choices of `config.timesteps.name`. Options are keyword arguments, and a config section.
TIMESTEP_SAMPLERS: dict[str, Callable[..., TimestepSampler]] = {
    "uniform": uniform,
    "loss_second_moment": loss_second_moment,
}
