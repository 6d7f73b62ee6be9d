"""Timestep spacings of published programs.

All functions return positions t = 1 .. T, increasing. The programs count from 0 and call step t
timestep t - 1. `num_steps` is T, `count` the number of steps to take.
"""

import numpy as np

from diffusion_jax.diffusion.checks import check_range
from diffusion_jax.diffusion.discrete_schedules import Positions


def leading(num_steps: int, count: int, steps_offset: int = 0) -> Positions:
    """1 + k floor(T / count) + steps_offset for k = 0 .. count - 1, short of the last step.

    "Leading" of diffusers and of arXiv:2305.08891, table 2. Raises ValueError for an offset that
    is negative or leads out of the chain.
    """
    check_count(num_steps, count)
    check_range("steps_offset", steps_offset, 0)
    steps = 1 + np.arange(count) * (num_steps // count) + steps_offset
    if steps[-1] > num_steps:
        raise ValueError(
            f"steps_offset={steps_offset} leads to step {steps[-1]} of a chain of {num_steps}; "
            f"with steps={count} it can be up to {num_steps - steps[-1] + steps_offset}"
        )
    return steps


def trailing(num_steps: int, count: int) -> Positions:
    """round(T - k T / count) for k = 0 .. count - 1, from the last step down, short of the first.

    "Trailing" of diffusers and of arXiv:2305.08891, table 2.
    """
    check_count(num_steps, count)
    # The published expression, since its last digits decide how halves are rounded. Where they
    # also make one number too many, about 0, that is left out.
    downwards = np.arange(num_steps, 0, -num_steps / count)[:count]
    return np.rint(downwards).astype(int)[::-1]


def linspace(num_steps: int, count: int) -> Positions:
    """1 + round(k (T - 1) / (count - 1)) for k = 0 .. count - 1: both ends; a single step is 1.

    "Linspace" of diffusers. Halves are rounded to even timesteps, hence to odd steps.
    """
    check_count(num_steps, count)
    return 1 + np.rint(np.linspace(0, num_steps - 1, count)).astype(int)


def quadratic(num_steps: int, count: int, reach: float = 1.0) -> Positions:
    """1 + floor(last k^2 / (count - 1)^2) for k = 0 .. count - 1, with last = reach T, up to T - 1.

    DDIM (arXiv:2010.02502), appendix D.2: tau_k = floor(c k^2). Where two would be the same, the
    later one moves up to the next free step. A single step is the last.
    """
    check_count(num_steps, count)
    check_reach(reach)
    last = min(reach * num_steps, num_steps - 1)
    # The published expression, since its last digits decide what is rounded down.
    timesteps = (np.linspace(0, np.sqrt(last), count) ** 2).astype(int)
    timesteps[-1] = int(last)
    if count > timesteps[-1] + 1:
        raise ValueError(
            f"steps={count} is more than the {timesteps[-1] + 1} steps within reach={reach}"
        )
    order = np.arange(count)
    return 1 + np.maximum.accumulate(timesteps - order) + order


def sections(num_steps: int, counts: tuple[int, ...]) -> Positions:
    """Returns counts[i] steps in the i-th of equal stretches of the chain.

    Each stretch is visited evenly, both its ends included; the first ones are a step longer where
    T is not divisible. As in Improved DDPM (arXiv:2102.09672), `space_timesteps` of
    openai/improved-diffusion.
    Raises ValueError for other counts, and for more steps than a stretch has.
    """
    if min(counts, default=-1) < 0 or not any(counts):
        raise ValueError(f"sections={counts} must be numbers of steps, such as (25,) or (10,15,20)")
    size, longer = divmod(num_steps, len(counts))
    steps, start = [], 1
    for i, count in enumerate(counts):
        length = size + (i < longer)
        if count > length:
            raise ValueError(f"sections={counts}: {count} steps in a section of {length}")
        stride = (length - 1) / (count - 1) if count > 1 else 1.0
        # Summed up as published, since the last digits decide how halves are rounded.
        places = np.cumsum([0.0, *[stride] * (count - 1)])[:count]
        steps.append(start + np.rint(places).astype(int))
        start += length
    return np.concatenate(steps)


def check_count(num_steps: int, count: int) -> None:
    """Raises ValueError for more steps than the chain has, or none."""
    if not 1 <= count <= num_steps:
        raise ValueError(f"steps={count} is not in 1..{num_steps}, the length of the chain")


def check_reach(reach: float) -> None:
    """Raises ValueError unless this is a part of a chain."""
    if not 0 < reach <= 1:
        raise ValueError(f"reach={reach} must be above 0, up to 1")
