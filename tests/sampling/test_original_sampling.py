"""The original's sampler, written out in NumPy, against the compiled one on imported weights."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from original_golden import checkpoint

from configs import original as original_config
from diffusion_jax import parallel
from diffusion_jax.config.experiment import Experiment
from diffusion_jax.diffusion import keys
from diffusion_jax.diffusion.process import x0_from_eps
from diffusion_jax.diffusion.sampling_schedule import to_float32
from diffusion_jax.diffusion.schedules import make_schedule
from diffusion_jax.diffusion.types import Prediction
from diffusion_jax.generation.sampler import Sampler
from diffusion_jax.sampling import make_sampling_schedule
from diffusion_jax.sampling.solvers.ddim import ddim_step
from diffusion_jax.sampling.solvers.original import original_step

SEED, SHAPE, NULL = 5, (32, 32, 1), 7
LABELS = np.array([3, 0, 6], np.int32)


@pytest.fixture(scope="module")
def imported():
    return checkpoint("odd", "published")


def by_hand(network, labels, x, t, z, *, T, s, scale, w, corrected):
    """One step of the original, with its own formula for alpha-bar and a pass for each half."""

    def alpha_bar(t):
        f = np.cos((np.array([t, 0]) / T + 0.008) / 1.008 * np.pi / 2) ** 2
        return np.clip(f[0] / f[1], 1e-10, 0.999)

    noise, v = network(x, t, labels)
    if w > 0:
        null_noise, null_v = network(x, t, np.full_like(labels, NULL))
        noise = (1 + w) * noise - w * null_noise
        v = (1 + w) * v - w * null_v
    now, before = alpha_bar(t), alpha_bar(max(t - s, 0))
    beta = np.clip(1 - now / before, 1e-10, 0.999)
    beta_tilde = (1 - before) / (1 - now) * beta
    log_variance = np.clip(v * np.log(beta) + (1 - v) * np.log(beta_tilde), -30, 30)
    x0 = (x - np.sqrt(1 - now) * noise) / np.sqrt(now)
    if corrected:
        x0 = np.clip(x0, -1, 1)
    direction = np.sqrt(max(1 - before - scale * beta_tilde, 0))
    sigma = np.sqrt(scale * np.exp(log_variance))
    return np.sqrt(before) * x0 + direction * noise + z * sigma


def draws(count, steps):
    """x_T and every z, as the compiled loop draws them."""
    image_keys = keys.per_example(keys.derive(SEED, "sample"), jnp.arange(count))
    at = [keys.normal(keys.at_step(image_keys, step), SHAPE) for step in range(steps + 1)]
    return np.asarray(at[0], np.float64), [np.asarray(z, np.float64) for z in at[:0:-1]]


@pytest.mark.parametrize(
    ("s", "scale", "w", "corrected", "labels"),
    [
        (10, 0.0, 2.0, False, LABELS),
        (10, 1.0, 4.0, True, LABELS),
        (7, 2.25, 0.0, True, LABELS),
        (20, 0.5, 1.0, False, np.full(3, NULL, np.int32)),
    ],
)
def test_trajectory_by_hand(imported, s, scale, w, corrected, labels):
    config = original_config.get_config()
    config.update_from_flattened_dict(imported.settings)
    config.data.resolution = SHAPE[0]
    config.sampling.solver = "original"
    config.sampling.original.eta = float(np.sqrt(scale))
    config.sampling.stride = s
    config.sampling.clip = corrected
    config.sampling.guidance = w
    with jax.default_matmul_precision("highest"):
        steps = range(1 + s * (99 // s), 0, -s)
        generator = Sampler.from_experiment(
            Experiment.from_config(config), batch_size=8, frames=len(steps)
        )
        images, film = generator(parallel.replicate(imported.params), labels, seed=SEED)
        apply = jax.jit(partial(imported.model.apply, {"params": imported.params}))

        def network(x, t, labels):
            steps = jnp.full(len(labels), t, jnp.int32)
            output = apply(jnp.asarray(x, jnp.float32), steps, jnp.asarray(labels))
            parts = output.estimate, output.variance_fraction
            return [np.asarray(part, np.float64) for part in parts]

        x, fresh = draws(3, len(steps))
        options = {"T": 100, "s": s, "scale": scale, "w": w, "corrected": corrected}
        for position, (t, z) in enumerate(zip(steps, fresh)):
            x = by_hand(network, labels, x, t, z, **options)
            assert_allclose(film.x[:, position], x, rtol=0, atol=1e-4 * np.abs(x).max())
            if corrected:
                # Clipping makes the chain of random weights chaotic: each step by itself, then.
                x = film.x[:, position].astype(np.float64)
    assert_array_equal(images, film.x[:, -1])


def test_an_image_does_not_depend_on_the_number_of_samples(imported):
    config = original_config.get_config()
    config.update_from_flattened_dict(imported.settings)
    config.data.resolution = SHAPE[0]
    config.sampling.stride = 50
    generator = Sampler.from_experiment(Experiment.from_config(config), batch_size=8)
    params = parallel.replicate(imported.params)
    draw = partial(generator, params, seed=0, guidance_scale=1.0, eta=0.0)
    many, _ = draw(np.arange(11, dtype=np.int32) % 7)
    few, _ = draw(np.arange(2, dtype=np.int32))
    assert_array_equal(many[:2], few)


def gaussian_denoiser(mean, std):
    """The exact denoiser of data distributed as N(mean, std^2), with the fixed variance."""

    def denoiser(x, level):
        variance = level.alpha**2 * std**2 + level.sigma**2
        noise = level.sigma * (x - level.alpha * mean) / variance
        return Prediction(x0_from_eps(level, x, noise), noise)

    return denoiser


def rows_of(sampling_schedule):
    """(now, next, coefficients) of each step, as float32 scalars."""
    sampling_schedule = to_float32(sampling_schedule)
    rows = jax.tree.map(jnp.asarray, (*sampling_schedule.pairs(), sampling_schedule.steps))
    return [jax.tree.map(lambda row: row[i], rows) for i in range(sampling_schedule.num_steps)]  # noqa: B023


# Standard deviation of the samples, relative to the data.
SPREADS = {0.0: (0.0, 0.0316), 0.2: (0.1926, 0.1973), 0.5: (0.4920, 0.4937), 1.0: (0.9877, 0.9882)}


@pytest.mark.parametrize("std", SPREADS)
def test_the_default_sampler_removes_the_noise_that_the_originals_leaves(std):
    """With an exact denoiser both are linear maps: mean and spread follow without sampling."""
    trained = make_schedule("cosine", 1000, original_quirks=True)
    mean = 0.3

    def moments(step, to_clean_image):
        sampling_schedule = make_sampling_schedule(
            trained, steps=100, stride=10, to_clean_image=to_clean_image
        )
        m, s = 0.0, 1.0
        x = jnp.array([0.0, 1.0]).reshape(2, 1, 1, 1)
        for row in rows_of(sampling_schedule):
            offset, at_one = np.ravel(step(gaussian_denoiser(mean, std), *row, x, 0 * x, eta=0.0))
            m, s = offset + (at_one - offset) * m, (at_one - offset) * s
        return m, s

    default, original = moments(ddim_step, True), moments(original_step, False)
    assert_allclose((default[0], original[0]), mean, atol=5e-3)
    assert_allclose((default[1], original[1]), SPREADS[std], atol=1e-4)
