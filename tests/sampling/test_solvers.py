"""Solvers with the exact denoiser of Gaussian data, whose probability flow is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from table_cases import ORDERS

from diffusion_jax.config.schema import choose
from diffusion_jax.diffusion import keys, process
from diffusion_jax.diffusion.sampling_schedule import from_levels
from diffusion_jax.diffusion.schedules import make_schedule
from diffusion_jax.diffusion.types import Level, Prediction
from diffusion_jax.sampling import (
    SOLVERS,
    count_evaluations,
    make_sampling_schedule,
    memoryless,
    sample,
)

MEAN, STD = 0.3, 0.5
SHAPE = (4, 4, 1)
# At these steps their errors still fall as if the order were higher.
FASTER = {"dpmpp_3m", "unipc"}


def exact(x, level):
    """E[x0 | x] for x0 ~ N(MEAN, STD^2)."""
    signal, noise = process.per_image(level.alpha), process.per_image(level.sigma)
    gain = signal * STD**2 / (signal**2 * STD**2 + noise**2)
    x0 = MEAN + gain * (x - signal * MEAN)
    return Prediction(x0, (x - signal * x0) / noise)


def standardized(x, level):
    """(x - E x) / std x, which the probability flow keeps."""
    return (x - level.alpha * MEAN) / np.sqrt(level.alpha**2 * STD**2 + level.sigma**2)


def ends(sampling_schedule):
    levels = sampling_schedule.levels
    return (Level(levels.alpha[i], levels.sigma[i], levels.c_noise[i]) for i in (0, -1))


def follow(solver, schedule, sampling_schedule, x, **options):
    made = choose(SOLVERS, solver, "sampling.solver")(**options)
    coefficients = made.prepare(sampling_schedule, schedule)
    image_keys = keys.per_example(jax.random.key(0), jnp.arange(len(x)))
    run = jax.jit(lambda x, *rows: sample(made, exact, *rows, image_keys, SHAPE, x=x)[0])
    return run(x, sampling_schedule, coefficients)


def error(solver, schedule, sampling_schedule, **options):
    """The largest distance to where the probability flow leads from the same start."""
    first, last = ends(sampling_schedule)
    x = jnp.linspace(-2, 2, 16).reshape(1, *SHAPE) * sampling_schedule.init_noise_std
    spread = np.sqrt(last.alpha**2 * STD**2 + last.sigma**2)
    wanted = last.alpha * MEAN + spread * standardized(np.asarray(x, np.float64), first)
    return float(np.abs(follow(solver, schedule, sampling_schedule, x, **options) - wanted).max())


def smooth_sampling_schedule(kind, steps):
    """Finer and finer grids of one curve between two levels, so that an order can be measured.

    Returns (schedule, sampling_schedule).
    """
    sigma = np.exp(np.linspace(np.log(10.0), np.log(0.1), steps + 1))
    if kind == "karras":
        sigma = (np.linspace(10.0 ** (1 / 7), 0.1 ** (1 / 7), steps + 1)) ** 7
        schedule = make_schedule("edm")
        return schedule, from_levels(schedule.at_sigma(sigma))
    if kind == "flow":
        schedule = make_schedule("flow")
        return schedule, from_levels(schedule.level(np.linspace(0.95, 0.05, steps + 1), np))
    schedule = make_schedule("cosine")
    return schedule, from_levels(schedule.at_sigma(sigma))


@pytest.mark.parametrize("solver", ORDERS)
@pytest.mark.parametrize("kind", ["variance preserving", "karras", "flow"])
def test_the_order_of_a_solver(solver, kind):
    """The slope of log error against log evaluations is minus the order."""
    counts = np.array([8, 16, 32, 64])
    errors = [error(solver, *smooth_sampling_schedule(kind, count)) for count in counts]
    slope = -np.polyfit(np.log(counts[1:]), np.log(errors[1:]), 1)[0]
    largest = np.inf if solver in FASTER else ORDERS[solver] + 0.5
    assert ORDERS[solver] - 0.15 < slope < largest, errors


@pytest.mark.parametrize(("order", "least"), [(1, 1.7), (2, 2.7), (3, 3.2)])
@pytest.mark.parametrize("kind", ["variance preserving", "karras", "flow"])
def test_the_corrector_of_unipc_adds_an_order(order, least, kind):
    counts = np.array([16, 32, 64])
    errors = [
        error("unipc", *smooth_sampling_schedule(kind, count), order=order) for count in counts
    ]
    assert -np.polyfit(np.log(counts), np.log(errors), 1)[0] > least, errors


@pytest.mark.parametrize("name", ["cosine", "continuous_cosine", "flow", "edm"])
@pytest.mark.parametrize("spacing", ["ends", "karras"])
@pytest.mark.parametrize("solver", ORDERS)
def test_sampling_ends_at_the_data(solver, name, spacing):
    schedule = make_schedule(name)
    sampling_schedule = make_sampling_schedule(schedule, steps=60, spacing=spacing)
    assert error(solver, schedule, sampling_schedule) < (0.05 if ORDERS[solver] == 1 else 0.02)


def test_initial_noise_has_the_deviation_of_the_first_level():
    """One step of DDIM to the clean image ends at what is estimated from the start: 80 n."""
    solver, sampling_schedule = (
        SOLVERS["ddim"](),
        make_sampling_schedule(make_schedule("edm"), steps=1),
    )
    image_keys = keys.per_example(jax.random.key(0), jnp.arange(3))
    sampled, _ = sample(
        solver, exact, sampling_schedule, sampling_schedule.steps, image_keys, SHAPE
    )
    noise = keys.normal(keys.at_step(image_keys, 0), SHAPE)
    gain = STD**2 / (STD**2 + 80.0**2)
    assert_allclose(sampled, MEAN + gain * (80 * noise - MEAN), rtol=1e-5)


def test_heun_is_edms_algorithm_at_edms_levels():
    """The published trajectory of D = x / (1 + 4 sigma^2) from x = 80 in 18 steps."""

    def denoiser(x, level):
        x0 = x / (1 + 4 * level.sigma**2)
        return Prediction(x0, (x - x0) / level.sigma)

    solver, schedule = SOLVERS["heun"](), make_schedule("edm")
    for steps, wanted in ((18, 0.5276246370), (32, 0.5078380114)):
        sampling_schedule = make_sampling_schedule(schedule, steps=steps)
        coefficients = solver.prepare(sampling_schedule, schedule)
        image_keys = keys.per_example(jax.random.key(0), jnp.arange(1))
        x = jnp.full((1, *SHAPE), 80.0)
        x, _ = sample(solver, denoiser, sampling_schedule, coefficients, image_keys, SHAPE, x=x)
        assert_allclose(x, wanted, rtol=1e-5)


def test_heun_evaluates_twice_except_in_the_last_step():
    sigmas_evaluated = []

    def denoiser(x, level):
        jax.debug.callback(lambda noise: sigmas_evaluated.append(float(noise)), level.sigma)
        return exact(x, level)

    schedule, solver = make_schedule("edm"), SOLVERS["heun"]()
    sampling_schedule = make_sampling_schedule(schedule, steps=5)
    image_keys = keys.per_example(jax.random.key(0), jnp.arange(1))
    coefficients = solver.prepare(sampling_schedule, schedule)
    jax.block_until_ready(
        sample(solver, denoiser, sampling_schedule, coefficients, image_keys, SHAPE)
    )
    jax.effects_barrier()
    assert len(sigmas_evaluated) == 2 * 5 - 1
    assert min(sigmas_evaluated) > 0


@pytest.mark.parametrize("steps", [1, 6])
@pytest.mark.parametrize(
    ("name", "per_step", "less"),
    [
        ("ddim", 1, 0),
        ("euler", 1, 0),
        ("euler_ancestral", 1, 0),
        ("ddpm", 1, 0),
        ("dpmpp_2m", 1, 0),
        ("heun", 2, 1),
        ("dpmpp_2s", 2, 1),
    ],
)
def test_evaluations_of_a_solver(name, per_step, less, steps):
    schedule = make_schedule("cosine")
    solver = SOLVERS[name]()
    sampling_schedule = make_sampling_schedule(schedule, steps=steps)
    assert count_evaluations(solver, sampling_schedule, schedule) == per_step * steps - less


def test_heun_evaluates_twice_in_every_step_that_ends_in_noise():
    schedule, sampling_schedule = smooth_sampling_schedule("karras", 5)
    solver = SOLVERS["heun"]()
    assert count_evaluations(solver, sampling_schedule, schedule) == 10


def test_evaluations_are_those_that_were_executed():
    """A step evaluates the denoiser twice, and three times more at large noise."""

    def step(denoiser, now, next, coefficients, x, noise):
        x0 = denoiser(x, now).x0
        denoiser(x, now)

        def thrice():
            return jax.lax.fori_loop(0, 3, lambda _, x: denoiser(x, now).x0, x0)

        return jax.lax.cond(now.sigma > 1, thrice, lambda: x0)

    schedule, sampling_schedule = smooth_sampling_schedule("karras", 8)
    large = int(np.sum(sampling_schedule.levels.sigma[:-1] > 1))
    assert 0 < large < 8
    assert count_evaluations(memoryless(step), sampling_schedule, schedule) == 2 * 8 + 3 * large


def test_dpmpp_2m_against_its_algorithm_written_out():
    """DPM-Solver++ (arXiv:2211.01095), algorithm 2, in float64."""
    schedule = make_schedule("cosine")
    sampling_schedule = make_sampling_schedule(schedule, steps=12)
    w = sampling_schedule.levels
    x = 1.5
    snr = np.log(w.alpha[:-1] / w.sigma[:-1])
    last = None
    for i in range(12):
        a, s = w.alpha[i], w.sigma[i]
        x0 = MEAN + a * STD**2 / (a**2 * STD**2 + s**2) * (x - a * MEAN)
        if i == 11:
            x = x0
            break
        h = snr[i + 1] - snr[i]
        d = x0
        if i > 0:
            r = (snr[i] - snr[i - 1]) / h
            d = (1 + 1 / (2 * r)) * x0 - last / (2 * r)
        x = w.sigma[i + 1] / s * x - w.alpha[i + 1] * np.expm1(-h) * d
        last = x0
    x_ours = follow("dpmpp_2m", schedule, sampling_schedule, jnp.full((1, *SHAPE), 1.5))
    assert_allclose(x_ours, x, rtol=2e-5)


@pytest.mark.parametrize("solver", ORDERS)
def test_equal_levels_of_the_originals_cosine_change_nothing(solver):
    """Its first 13 of 1,000 steps have one alpha-bar: steps between them lead nowhere."""
    schedule = make_schedule("cosine", original_quirks=True)
    assert error(solver, schedule, make_sampling_schedule(schedule, steps=250)) < 0.05


@pytest.mark.parametrize("solver", ORDERS)
def test_inversion_returns_the_initial_noise(solver):
    schedule, down = smooth_sampling_schedule("variance preserving", 200)
    x = jnp.linspace(-1, 1, 16).reshape(1, *SHAPE)
    image = follow(solver, schedule, down, x)
    back = follow(solver, schedule, down.reversed(), image)
    assert_allclose(back, x, atol=0.03 if ORDERS[solver] == 1 else 2e-3)


def test_image_to_image_starts_in_the_middle():
    """From the middle level, the rest of the sampling schedule ends where the whole one does."""
    schedule = make_schedule("cosine")
    whole = make_sampling_schedule(schedule, steps=40)
    image_keys = keys.per_example(jax.random.key(0), jnp.arange(1))
    x = jnp.linspace(-2, 2, 16).reshape(1, *SHAPE)
    end, film = sample(
        SOLVERS["ddim"](), exact, whole, whole.steps, image_keys, SHAPE, frames=40, x=x
    )
    rest = whole.from_level(15)
    assert_allclose(follow("ddim", schedule, rest, film.x[14]), end, atol=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SOLVERS["ddim"](eta=1.5), r"eta=1.5 must be in \[0, 1\]"),
        (lambda: SOLVERS["ddim"](eta=float("nan")), r"eta=nan must be in \[0, 1\]"),
        (lambda: SOLVERS["original"](eta=-0.1), "eta=-0.1 must be at least 0"),
        (lambda: SOLVERS["euler_ancestral"](eta=1.1), r"eta=1.1 must be in \[0, 1\]"),
        (lambda: SOLVERS["dpmpp_2s"](eta=-0.1), r"eta=-0.1 must be in \[0, 1\]"),
        (lambda: SOLVERS["heun"](s_churn=-1.0), "s_churn=-1.0 must be at least 0"),
        (lambda: SOLVERS["euler"](s_tmin=-1.0), "s_tmin=-1.0 must be at least 0"),
        (lambda: SOLVERS["euler"](s_tmax=-1.0), "s_tmax=-1.0 must be at least 0"),
        (lambda: SOLVERS["heun"](s_noise=0.0), "s_noise=0.0 must be positive"),
        (
            lambda: SOLVERS["heun"](s_tmin=2.0, s_tmax=1.0),
            "s_tmax=1.0 must be at least s_tmin=2.0, or None for no limit",
        ),
        (
            lambda: SOLVERS["ddpm"](variance="medium"),
            "Unknown variance 'medium'; known variances: learned, small, large",
        ),
    ],
)
def test_options_out_of_range_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
