"""Solvers that add fresh noise: published algorithms written out, and Gaussian data."""

from operator import itemgetter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from edm_sampler import CHURN, algorithm_2, walk
from numpy.testing import assert_allclose, assert_array_equal
from table_cases import STOCHASTIC, STOCHASTIC_WITH_STATE

from diffusion_jax.config.schema import choose
from diffusion_jax.diffusion import keys
from diffusion_jax.diffusion.process import per_image
from diffusion_jax.diffusion.sampling_schedule import to_float32
from diffusion_jax.diffusion.schedules import make_schedule
from diffusion_jax.diffusion.types import Prediction
from diffusion_jax.sampling import SOLVERS, make_sampling_schedule, memoryless, sample
from diffusion_jax.sampling.solvers.heun import heun_step

MEAN, STD = 0.3, 0.5
SHAPE = (2, 2, 1)


def exact(x, level):
    """E[x0 | x] for x0 ~ N(MEAN, STD^2)."""
    signal, noise = per_image(level.alpha), per_image(level.sigma)
    gain = signal * STD**2 / (signal**2 * STD**2 + noise**2)
    x0 = MEAN + gain * (x - signal * MEAN)
    return Prediction(x0, (x - signal * x0) / noise)


def nonlinear(x, level):
    """A denoiser that depends on the c_noise, too."""
    x0 = jnp.tanh(x * (1 + 0.1 * jnp.sin(per_image(level.c_noise)))) * 0.8
    return Prediction(x0, (x - per_image(level.alpha) * x0) / per_image(level.sigma))


@pytest.mark.parametrize(("solver", "second_order"), [("heun", True), ("euler", False)])
@pytest.mark.parametrize(
    "options",
    [
        CHURN,
        CHURN | {"s_churn": 1000.0},  # as much as sqrt(2) - 1 allows
        CHURN | {"s_tmin": 0.0, "s_tmax": None},  # at all levels, the noisiest included
        CHURN | {"s_tmax": 80.0},  # likewise, at its upper end
    ],
)
def test_edms_algorithm_2(solver, second_order, options):
    steps = 12
    schedule = make_schedule("edm")
    sampling_schedule = make_sampling_schedule(schedule, steps=steps)
    noises = np.random.default_rng(0).standard_normal((steps, 1, *SHAPE)).astype(np.float32)
    x = np.linspace(-100, 100, 4, dtype=np.float32).reshape(1, *SHAPE)
    ours = walk(SOLVERS[solver](**options), sampling_schedule, schedule, nonlinear, x, noises)
    ramp = 80 ** (1 / 7) + np.arange(steps) / (steps - 1) * (0.002 ** (1 / 7) - 80 ** (1 / 7))
    sigma = np.append(ramp**7, 0.0)
    published = dict(options, s_tmax=options["s_tmax"] or np.inf)
    if options["s_tmax"] == 80.0:
        published["s_tmax"] = np.inf  # sigma_0 is 80 but for rounding
    wanted = algorithm_2(
        x.astype(np.float64),
        noises.astype(np.float64),
        steps=steps,
        sigma=sigma,
        second_order=second_order,
        **published,
    )
    assert_allclose(ours, wanted, rtol=1e-5, atol=1e-6)


def test_which_steps_of_edms_imagenet_run_are_churned():
    """256 steps, S_churn 40, S_tmin 0.05, S_tmax 50: steps 22 to 212, gamma = 0.15625."""
    schedule = make_schedule("edm")
    solver = SOLVERS["heun"](s_churn=40.0, s_tmin=0.05, s_tmax=50.0, s_noise=1.003)
    sampling_schedule = make_sampling_schedule(schedule, steps=256)
    prepared, (now, _) = solver.prepare(sampling_schedule, schedule), sampling_schedule.pairs()
    ratio = prepared.raised.sigma / now.sigma
    churned = np.flatnonzero(ratio != 1)
    assert_array_equal(churned, np.arange(22, 213))
    assert_allclose(ratio[churned], 1.15625)
    # Elsewhere level and x are what they were, to the bit.
    assert_array_equal(np.delete(prepared.added_std, churned), 0)
    assert_array_equal(np.delete(prepared.factor, churned), 1)
    assert_array_equal(np.delete(prepared.raised.c_noise, churned), np.delete(now.c_noise, churned))


@pytest.mark.parametrize("name", ["cosine", "flow", "edm"])
def test_without_churn_heun_is_the_plain_step_to_the_bit(name):
    schedule = make_schedule(name)
    sampling_schedule = make_sampling_schedule(schedule, steps=7)
    image_keys = keys.per_example(jax.random.key(0), jnp.arange(2))
    step = memoryless(lambda denoiser, now, next, _, x, noise: heun_step(denoiser, now, next, x))
    plain, _ = sample(
        step, nonlinear, sampling_schedule, sampling_schedule.steps, image_keys, SHAPE
    )
    solver = SOLVERS["heun"]()
    ours, _ = sample(
        solver,
        nonlinear,
        sampling_schedule,
        solver.prepare(sampling_schedule, schedule),
        image_keys,
        SHAPE,
    )
    assert_array_equal(ours, plain)


@pytest.mark.parametrize("name", ["linear", "cosine", "continuous_cosine", "flow", "edm"])
def test_churn_leads_to_the_raised_level(name):
    """If x = signal x0 + noise eps, the churned x has the signal and the variance raised to."""
    schedule = make_schedule(name)
    solver = SOLVERS["euler"](s_churn=3.0)
    sampling_schedule = make_sampling_schedule(schedule, steps=10)
    churn, (now, _) = solver.prepare(sampling_schedule, schedule), sampling_schedule.pairs()
    assert np.all(churn.raised.sigma / churn.raised.alpha > now.sigma / now.alpha)
    assert_allclose(churn.factor * now.alpha, churn.raised.alpha, rtol=1e-12)
    variance = (churn.factor * now.sigma) ** 2 + churn.added_std**2
    assert_allclose(variance, churn.raised.sigma**2, rtol=1e-9)


@pytest.mark.parametrize("spacing", ["ends", "karras"])
@pytest.mark.parametrize("name", ["cosine", "flow", "edm"])
def test_euler_ancestral_is_ddim_with_the_same_eta(name, spacing):
    schedule = make_schedule(name)
    sampling_schedule = make_sampling_schedule(schedule, steps=8, spacing=spacing)
    image_keys = keys.per_example(jax.random.key(0), jnp.arange(2))
    for eta in (0.0, 0.6, 1.0):
        ours, theirs = (
            sample(
                SOLVERS[solver](eta=eta),
                nonlinear,
                sampling_schedule,
                sampling_schedule.steps,
                image_keys,
                SHAPE,
            )[0]
            for solver in ("euler_ancestral", "ddim")
        )
        assert_allclose(ours, theirs, rtol=1e-6)


def test_the_ancestral_2s_against_its_algorithm_written_out():
    """k-diffusion's sample_dpmpp_2s_ancestral, in float64, with sigma as its only coordinate."""
    schedule, eta, steps = make_schedule("edm"), 0.7, 9
    sampling_schedule = make_sampling_schedule(schedule, steps=steps)
    sigma = sampling_schedule.levels.sigma
    noises = np.random.default_rng(0).standard_normal((steps, 1, *SHAPE)).astype(np.float32)
    start = np.linspace(-100, 100, 4, dtype=np.float32).reshape(1, *SHAPE)

    def D(x, sigma):
        return np.tanh(x * (1 + 0.1 * np.sin(np.log(sigma) / 4))) * 0.8

    x = start.astype(np.float64)
    for i in range(steps):
        now, to = sigma[i], sigma[i + 1]
        up = min(to, eta * np.sqrt(to**2 * (now**2 - to**2) / now**2))
        down = np.sqrt(to**2 - up**2)
        if down == 0:
            x = D(x, now)
            continue
        t, t_next = -np.log(now), -np.log(down)
        h = t_next - t
        s = t + h / 2
        middle = np.exp(-s) / now * x - np.expm1(-h / 2) * D(x, now)
        x = down / now * x - np.expm1(-h) * D(middle, np.exp(-s))
        x = x + noises[i] * up
    ours = walk(SOLVERS["dpmpp_2s"](eta=eta), sampling_schedule, schedule, nonlinear, start, noises)
    assert_allclose(ours, x, rtol=2e-5, atol=1e-6)


def test_dpmpp_2s_evaluates_twice_except_in_the_step_to_the_clean_image():
    sigmas_evaluated = []

    def denoiser(x, level):
        jax.debug.callback(lambda noise: sigmas_evaluated.append(float(noise)), level.sigma)
        return exact(x, level)

    schedule = make_schedule("cosine")
    sampling_schedule = make_sampling_schedule(schedule, steps=5)
    zeros = np.zeros((5, 1, *SHAPE), np.float32)
    jax.block_until_ready(
        walk(
            SOLVERS["dpmpp_2s"](),
            sampling_schedule,
            schedule,
            denoiser,
            np.ones((1, *SHAPE), "f"),
            zeros,
        )
    )
    jax.effects_barrier()
    assert len(sigmas_evaluated) == 2 * 5 - 1


def test_ddpm_cannot_climb():
    schedule = make_schedule("cosine")
    sampling_schedule = make_sampling_schedule(schedule, steps=5).reversed()
    with pytest.raises(ValueError, match=r"ddpm .* use ddim"):
        SOLVERS["ddpm"]().prepare(sampling_schedule, schedule)


def test_ddpm_falls_back_to_the_small_variance():
    schedule = make_schedule("cosine")
    sampling_schedule = make_sampling_schedule(schedule, steps=6)
    image_keys = keys.per_example(jax.random.key(0), jnp.arange(2))
    draw = lambda variance: sample(  # noqa: E731
        SOLVERS["ddpm"](variance=variance),
        exact,
        sampling_schedule,
        sampling_schedule.steps,
        image_keys,
        SHAPE,
    )[0]
    assert_array_equal(draw("learned"), draw("small"))
    assert np.abs(draw("large") - draw("small")).max() > 0.01


def made(solver, options):
    return choose(SOLVERS, solver, "sampling.solver")(**options)


def moments(solver, sampling_schedule, schedule):
    """Mean and standard deviation of what the solver draws, without drawing.

    For Gaussian data the denoiser is affine, and with it the solver's step: x' = a x + b z + c. The
    three numbers of each step are measured, and the moments propagated in float64.
    """
    sampling_schedule, coefficients = to_float32(
        (sampling_schedule, solver.prepare(sampling_schedule, schedule))
    )
    ask = jax.jit(lambda *args: solver.step(exact, *args, solver.init(args[-1]))[0])
    mean, std = 0.0, float(sampling_schedule.init_noise_std)
    # The pixels are four experiments: x and z are 0 and 0, 1 and 0, 0 and 1, 1 and 1.
    for i in range(sampling_schedule.num_steps):
        rows = (*sampling_schedule.pairs(), coefficients)
        now, next, row = jax.tree.map(itemgetter(i), rows)
        x = np.array([0.0, 1.0, 0.0, 1.0], np.float32).reshape(1, *SHAPE)
        z = np.array([0.0, 0.0, 1.0, 1.0], np.float32).reshape(1, *SHAPE)
        c, ac, bc, abc = np.asarray(ask(now, next, row, x, z), np.float64).ravel()
        assert_allclose(abc - ac, bc - c, atol=1e-5)  # the step is affine
        mean = (ac - c) * mean + c
        std = np.hypot((ac - c) * std, bc - c)
    return mean, std


@pytest.mark.parametrize("name", STOCHASTIC)
@pytest.mark.parametrize("kind", ["cosine", "flow", "edm"])
def test_gaussian_data_are_reproduced(name, kind):
    """The error of the standard deviation falls with the order of the solver, to 3 or 0.2 %."""
    solver, options, order = STOCHASTIC[name]
    schedule = make_schedule(kind)

    def errors(steps):
        sampling_schedule = make_sampling_schedule(schedule, steps=steps, spacing="karras")
        mean, std = moments(made(solver, options), sampling_schedule, schedule)
        return abs(mean / MEAN - 1), abs(std / STD - 1)

    (_, coarse), (mean, fine) = errors(50), errors(200)
    assert coarse / fine > 0.8 * 4**order
    assert fine < (0.03 if order == 1 else 0.002)
    assert mean < 1e-4


@pytest.mark.parametrize("name", STOCHASTIC)
def test_samples_have_the_propagated_moments(name):
    """4,096 values: the mean is known to 0.008 and the standard deviation to 1.1 %."""
    solver, options, _ = STOCHASTIC[name]
    solver, schedule = made(solver, options), make_schedule("cosine")
    sampling_schedule = make_sampling_schedule(schedule, steps=12)
    mean, std = moments(solver, sampling_schedule, schedule)
    image_keys = keys.per_example(jax.random.key(0), jnp.arange(1024))
    prepared = solver.prepare(sampling_schedule, schedule)
    images = jax.jit(lambda k: sample(solver, exact, sampling_schedule, prepared, k, SHAPE)[0])(
        image_keys
    )
    assert_allclose(images.mean(), mean, atol=0.025)
    assert_allclose(images.std(), std, rtol=0.035)


RANDOM = STOCHASTIC | STOCHASTIC_WITH_STATE


@pytest.mark.parametrize("name", RANDOM)
def test_mean_and_covariance_are_reproduced(name):
    """Two pixels have correlation 0.6; 16,384 images give a variance to 1.1 %."""
    mean, covariance = np.array([0.3, -0.2]), np.array([[0.25, 0.12], [0.12, 0.16]])

    def gaussian(x, level):
        a, s = jnp.float32(level.alpha), jnp.float32(level.sigma)
        known = jnp.asarray(covariance, jnp.float32)
        gain = a * known @ jnp.linalg.inv(a**2 * known + s**2 * jnp.eye(2))
        center = jnp.asarray(mean, jnp.float32).reshape(1, 1, 2, 1)
        x0 = center + jnp.einsum("ij,bhjc->bhic", gain, x - a * center)
        return Prediction(x0, (x - a * x0) / s)

    solver, options, order = RANDOM[name]
    solver, schedule = made(solver, options), make_schedule("cosine")
    steps = 60 if order == 2 else 400
    sampling_schedule = make_sampling_schedule(schedule, steps=steps, spacing="karras")
    rows = sampling_schedule, solver.prepare(sampling_schedule, schedule)
    image_keys = keys.per_example(jax.random.key(0), jnp.arange(16384))
    images = jax.jit(lambda k: sample(solver, gaussian, *rows, k, (1, 2, 1))[0])(image_keys)
    sampled = np.asarray(images, np.float64).reshape(-1, 2)
    assert_allclose(sampled.mean(0), mean, atol=0.015)
    assert_allclose(np.cov(sampled.T), covariance, rtol=0.05)
