"""Trajectories of diffusers' schedulers, and of JAX solvers at the same levels with the same noise.

`golden/make_schedulers.py` writes them. Both sides use the same model, a smooth
function of the image, in variance-preserving scale, and of c_noise.
"""

from dataclasses import dataclass, replace
from functools import partial
from operator import itemgetter
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from diffusion_jax.diffusion.discrete_schedules import from_alphas_bar
from diffusion_jax.diffusion.process import per_image
from diffusion_jax.diffusion.sampling_schedule import from_levels, to_float32
from diffusion_jax.diffusion.schedules import make_schedule
from diffusion_jax.diffusion.types import Level, Prediction

SHAPE = (1, 2, 2, 1)
STEPS = (5, 10, 25)
SCHEDULES = ("linear", "squaredcos_cap_v2")


@dataclass(frozen=True)
class Golden:
    """A trajectory of a scheduler.

    c_noises, sigmas: (levels,). states: (levels, *SHAPE). noises: the noise of its steps, (at least
    steps, *SHAPE).
    """

    c_noises: np.ndarray
    sigmas: np.ndarray
    states: np.ndarray
    noises: np.ndarray

    def variance_preserving(self):
        """The same trajectory of a scheduler whose x is x0 + sigma eps, divided by its scale."""
        root = np.sqrt(1 + self.sigmas**2)
        return replace(self, states=self.states / root.reshape(-1, 1, 1, 1, 1))


def load(name, schedule, steps, file="schedulers.npz"):
    """The golden `name/schedule/steps` of a file."""
    with np.load(Path(__file__).parent / "golden" / file) as arrays:
        rows = arrays[f"{name}/{schedule}/{steps}"].astype(np.float64)
        noises = arrays["noises"]
    return Golden(
        c_noises=rows[:, 0],
        sigmas=rows[:, 1],
        states=rows[:, 2:].reshape(-1, *SHAPE),
        noises=noises.reshape(-1, *SHAPE),
    )


def chain(schedule):
    """The schedule of the scheduler, with its c_noise: 0 for the first step, where ours has 1."""
    alphas_bar = make_schedule("linear" if schedule == "linear" else "cosine").alphas_bar
    return from_alphas_bar(alphas_bar, np.arange(-1, 1000))


def variance_preserving(golden):
    """The sampling schedule with the golden's sigmas on which signal^2 + noise^2 = 1."""
    signal = 1 / np.sqrt(1 + golden.sigmas**2)
    return from_levels(Level(signal, golden.sigmas * signal, golden.c_noises))


def in_sigma(golden):
    """The sampling schedule with the golden's sigmas on which the signal is 1."""
    return from_levels(Level(np.ones_like(golden.sigmas), golden.sigmas, golden.c_noises))


def denoiser(schedule, learned=False):
    """The model of `golden/make_schedulers.py`, which predicts noise ("linear") or v."""

    def predict(x, level):
        signal, noise = per_image(level.alpha), per_image(level.sigma)
        root = jnp.sqrt(signal**2 + noise**2)
        x, signal, noise = x / root, signal / root, noise / root
        t = jnp.asarray(level.c_noise, jnp.float32)
        fraction = 0.5 + 0.4 * jnp.sin(x) if learned else None
        if schedule == "linear":
            near = t / (t + 30)
            estimate = near * x + 0.1 * (1 - near) * jnp.sin(3 * x)
            return Prediction((x - noise * estimate) / signal, estimate, fraction)
        v = -0.7 * jnp.tanh(2 * x) + 0.2 * jnp.sin(3 * x + t / 100)
        return Prediction(signal * x - noise * v, noise * x + signal * v, fraction)

    return predict


def follow(solver, denoiser, sampling_schedule, schedule, golden):
    """Returns x at each level, (levels, *SHAPE), with the golden's start and noises."""
    sampling_schedule, coefficients = to_float32(
        (sampling_schedule, solver.prepare(sampling_schedule, schedule))
    )
    x = jnp.asarray(golden.states[0], jnp.float32)
    step = jax.jit(partial(solver.step, denoiser))
    history, states = solver.init(x), [x]
    for i in range(sampling_schedule.num_steps):
        rows = (*sampling_schedule.pairs(), coefficients)
        now, next, row = jax.tree.map(itemgetter(i), rows)
        x, history = step(now, next, row, x, jnp.asarray(golden.noises[i]), history)
        states.append(x)
    return np.stack(states)


def distance(states, wanted):
    """The largest difference, relative to the trajectory's size at that level."""
    size = np.abs(wanted).max(axis=(1, 2, 3, 4))
    return float((np.abs(states - wanted).max(axis=(1, 2, 3, 4)) / size).max())
