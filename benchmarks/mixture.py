"""Data with a known distribution and a known optimal denoiser: a mixture of Gaussians.

The values of an image are independent, so that one image holds many draws in one dimension. In one
dimension the probability flow maps quantiles of the noisy distribution to quantiles of the data.
The result of a solver is thus compared exactly, without sampling error.
"""

from functools import lru_cache, partial
from operator import itemgetter

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from scipy.special import ndtr

from diffusion_jax.diffusion.process import eps_from_x0, per_image
from diffusion_jax.diffusion.sampling_schedule import SamplingSchedule, to_float32
from diffusion_jax.diffusion.schedules import Schedule
from diffusion_jax.diffusion.types import Images, Level, Prediction
from diffusion_jax.sampling.solver import Coefficients, Solver, State

WEIGHTS, MEANS, STDS = np.array([[0.3, 0.5, 0.2], [-0.6, 0.1, 0.7], [0.1, 0.2, 0.05]])
SHAPE = (64, 64, 1)


def denoiser(x: Images, level: Level) -> Prediction:
    """Returns E[x0 | x], the mean over the components, weighted by their posterior probability."""
    alpha, sigma = per_image(level.alpha), per_image(level.sigma)
    likely, expected = [], []
    for weight, mean, std in zip(WEIGHTS, MEANS, STDS):
        variance = alpha**2 * float(std) ** 2 + sigma**2
        off = x - alpha * float(mean)
        likely.append(jnp.log(float(weight) / jnp.sqrt(variance)) - off**2 / (2 * variance))
        expected.append(float(mean) + alpha * float(std) ** 2 / variance * off)
    share = jax.nn.softmax(jnp.stack(likely), axis=0)
    x0 = jnp.sum(share * jnp.stack(expected), axis=0)
    return Prediction(x0, eps_from_x0(level, x, x0))


@lru_cache
def quantiles(level: Level, count: int) -> Float[np.ndarray, "count"]:
    """Computes `count` quantiles of x at this level, at probabilities (i + 0.5) / count."""
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


def sample(
    solver: Solver, sampling_schedule: SamplingSchedule, schedule: Schedule, x: Images
) -> Images:
    """Returns the state at the last level, from x. A step is compiled once, for all lengths."""
    sampling_schedule, coefficients = to_float32(
        (sampling_schedule, solver.prepare(sampling_schedule, schedule))
    )
    state, rng = solver.init(x), np.random.default_rng(1)
    for i in range(sampling_schedule.num_steps):
        row = jax.tree.map(itemgetter(i), (*sampling_schedule.pairs(), coefficients))
        noise = jnp.asarray(rng.standard_normal(x.shape, np.float32))
        x, state = step(solver, *row, x, noise, state)
    return x


def distances(
    solver: Solver, sampling_schedule: SamplingSchedule, schedule: Schedule, images: int = 1
) -> tuple[float, float]:
    """Computes (Wasserstein, Frechet) distances between samples and x at the last level.

    Both are in the units of x0. The first compares all quantiles, the second only mean and
    standard deviation. images: number of images of 4,096 values; a solver with fresh noise has a
    sampling error, which shrinks with more values.
    """
    first, last = (
        Level(*(float(row[end]) for row in jax.tree.leaves(sampling_schedule.levels)))
        for end in (0, -1)
    )
    count = images * int(np.prod(SHAPE))
    # In random order, so that the noise of a value does not depend on its size.
    start = np.random.default_rng(0).permutation(quantiles(first, count))
    start = jnp.asarray(start.reshape(images, *SHAPE), jnp.float32)
    samples = sample(solver, sampling_schedule, schedule, start)
    samples, wanted = np.sort(np.asarray(samples, np.float64), axis=None), quantiles(last, count)
    moments = np.array([samples.mean() - wanted.mean(), samples.std() - wanted.std()])
    return float(np.sqrt(np.mean((samples - wanted) ** 2))), float(np.linalg.norm(moments))
