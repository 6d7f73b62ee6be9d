"""Data whose best denoiser and whose distribution are known: a mixture of normal distributions.

Every value of an image is drawn by itself, so that one image holds many draws in one dimension.
There the probability flow keeps quantiles: from those of the noisy distribution it leads to those
of the data, and what a solver makes of them can be compared exactly, without errors of sampling.
"""

from functools import lru_cache, partial
from operator import itemgetter

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from scipy.special import ndtr

from diffusion_jax.diffusion.process import eps_from_x0, per_image
from diffusion_jax.diffusion.sampling_schedule import SamplingSchedule, on_device
from diffusion_jax.diffusion.schedules import Schedule
from diffusion_jax.diffusion.types import Images, Level, Prediction
from diffusion_jax.sampling.solver import Coefficients, Solver, State

WEIGHTS, MEANS, STDS = np.array([[0.3, 0.5, 0.2], [-0.6, 0.1, 0.7], [0.1, 0.2, 0.05]])
SHAPE = (64, 64, 1)


def denoiser(x: Images, level: Level) -> Prediction:
    """E[x0 | x]: that of each component, weighed by how likely x comes from it."""
    signal, noise = per_image(level.alpha), per_image(level.sigma)
    likely, expected = [], []
    for weight, mean, std in zip(WEIGHTS, MEANS, STDS):
        variance = signal**2 * float(std) ** 2 + noise**2
        off = x - signal * float(mean)
        likely.append(jnp.log(float(weight) / jnp.sqrt(variance)) - off**2 / (2 * variance))
        expected.append(float(mean) + signal * float(std) ** 2 / variance * off)
    share = jax.nn.softmax(jnp.stack(likely), axis=0)
    x0 = jnp.sum(share * jnp.stack(expected), axis=0)
    return Prediction(x0, eps_from_x0(level, x, x0))


@lru_cache
def quantiles(level: Level, count: int) -> Float[np.ndarray, "count"]:
    """Of x at this level: one in the middle of each of so many equal shares of the probability."""
    wanted = (np.arange(count) + 0.5) / count
    means = level.alpha * MEANS[:, None]
    stds = np.sqrt(level.alpha**2 * STDS**2 + level.sigma**2)[:, None]
    low, high = (np.full(count, end * (abs(means).max() + 9 * stds.max())) for end in (-1, 1))
    for _ in range(60):
        middle = (low + high) / 2
        below = WEIGHTS @ ndtr((middle - means) / stds) < wanted
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return high


@partial(jax.jit, static_argnums=0)
def step(
    solver: Solver,
    now: Level,
    next: Level,
    coefficients: Coefficients,
    x: Images,
    z: Images,
    state: State,
):
    """Returns (x, state) after a step with noise z."""
    return solver.step(denoiser, now, next, coefficients, x, z, state)


def draw(solver: Solver, path: SamplingSchedule, schedule: Schedule, x: Images) -> Images:
    """Returns the state at the last level, from x. A step is compiled once, for all lengths."""
    path, coefficients = on_device((path, solver.prepare(path, schedule)))
    state, rng = solver.init(x), np.random.default_rng(1)
    for i in range(path.num_steps):
        row = jax.tree.map(itemgetter(i), (*path.pairs(), coefficients))
        noise = jnp.asarray(rng.standard_normal(x.shape, np.float32))
        x, state = step(solver, *row, x, noise, state)
    return x


def distances(
    solver: Solver, path: SamplingSchedule, schedule: Schedule, images: int = 1
) -> tuple[float, float]:
    """(Wasserstein, Frechet) distance between what a solver draws and x at the path's last level.

    In the units of x0. The first is that of all quantiles, the second of mean and standard
    deviation alone. images: of 4,096 values; a solver with fresh noise has errors of sampling,
    which more values make smaller.
    """
    first, last = (
        Level(*(float(row[end]) for row in jax.tree.leaves(path.levels))) for end in (0, -1)
    )
    count = images * int(np.prod(SHAPE))
    # In random order: what noise a value gets must not depend on its size.
    start = np.random.default_rng(0).permutation(quantiles(first, count))
    start = jnp.asarray(start.reshape(images, *SHAPE), jnp.float32)
    drawn = draw(solver, path, schedule, start)
    drawn, wanted = np.sort(np.asarray(drawn, np.float64), axis=None), quantiles(last, count)
    moments = np.array([drawn.mean() - wanted.mean(), drawn.std() - wanted.std()])
    return float(np.sqrt(np.mean((drawn - wanted) ** 2))), float(np.linalg.norm(moments))
