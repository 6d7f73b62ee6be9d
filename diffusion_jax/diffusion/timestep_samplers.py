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
from diffusion_jax.diffusion.types import Keys, Leaf, PerExample, Steps


@dataclass(frozen=True)
class TimestepSampler:
    """The distribution of the levels in training.

    init: () -> the history of the losses at the start; None without a history.
    draw: (keys, history) -> (positions of the schedule, weights of the loss), (batch,) each.
    update: (history, positions, losses) -> history, for a whole batch of all devices.
    part: the value of `diffusion_loss` that is in the history.
    """

    init: Callable[[], PyTree]
    draw: Callable[[Keys, PyTree], tuple[Leaf, PerExample]]
    update: Callable[[PyTree, Leaf, PerExample], PyTree]
    part: str = "loss"


def uniform(schedule: Schedule) -> TimestepSampler:
    """The distribution of the schedule itself; all examples have weight 1."""
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
    """p_t proportional to sqrt(E[L_t^2]), and L_t / (T p_t) as the loss. Improved DDPM, eq. 18.

    E[L_t^2] is the mean of the last `memory` losses of each step; until all steps have them, t is
    uniform. uniform_part: a part of the probability, spread evenly. part: L_t, "loss" or "vlb".
    reweight: False leaves out the division by T p_t, as gmongaras/Diffusion_models_from_scratch
    does; this minimizes another loss.
    Raises ValueError for a continuous schedule, which has no steps.
    """
    if schedule.num_steps is None:
        raise ValueError("loss_second_moment weighs the steps of a chain; the schedule has none")
    if memory < 1:
        raise ValueError(f"memory={memory} must be at least 1")
    check_range("uniform_part", uniform_part, 0, 1)
    if part not in ("loss", "vlb"):
        raise ValueError(f"part={part} must be loss or vlb")
    count = schedule.num_steps

    def init() -> PyTree:
        return {"losses": jnp.zeros((count, memory)), "seen": jnp.zeros((count,), jnp.int32)}

    def draw(keys: Keys, history: PyTree) -> tuple[Steps, PerExample]:
        root = jnp.sqrt(jnp.mean(jnp.square(history["losses"]), axis=1))
        by_loss = root / jnp.sum(root) * (1 - uniform_part) + uniform_part / count
        known = jnp.all(history["seen"] >= memory)
        p = jnp.where(known, by_loss, 1 / count)
        index = jax.vmap(lambda key: jax.random.categorical(key, jnp.log(p)))(keys)
        weights = 1 / (count * p[index])
        return index + 1, weights if reweight else jnp.ones_like(weights)

    def update(history: PyTree, t: Steps, losses: PerExample) -> PyTree:
        index = t - 1
        same = index[:, None] == index[None, :]
        # How many examples of the same step come before this one in the batch.
        rank = jnp.sum(jnp.tril(same, -1), axis=1)
        place = (history["seen"][index] + rank) % memory
        # Losses that later ones of the batch would overwrite are left out.
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
