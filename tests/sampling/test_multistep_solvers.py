"""Multi-step solvers: published algorithms written out in float64, and data known exactly."""

from operator import itemgetter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from benchmarks import mixture
from diffusion_jax.diffusion.process import per_image
from diffusion_jax.diffusion.sampling_schedule import from_levels, to_float32
from diffusion_jax.diffusion.schedules import make_schedule
from diffusion_jax.diffusion.types import Level, Prediction
from diffusion_jax.sampling import SOLVERS, make_sampling_schedule
from diffusion_jax.sampling.inpainting import resampled
from diffusion_jax.sampling.solvers.multistep import moments

SHAPE = (2, 2, 1)
START = np.linspace(-2, 2, 4)


def D(x, c_noise):
    """x0 as a smooth function of x and of the c_noise; the same in NumPy and in JAX."""
    xp = jnp if isinstance(x, jax.Array) else np
    return 0.8 * xp.tanh(x * (1 + 0.1 * xp.sin(c_noise / 100)))


def denoiser(x, level):
    x0 = D(x, per_image(level.c_noise))
    return Prediction(x0, (x - per_image(level.alpha) * x0) / per_image(level.sigma))


def walk(solver, sampling_schedule, schedule, noises=None):
    """x at every level of the sampling schedule from START, (levels, 4), with given noises."""
    sampling_schedule, coefficients = to_float32(
        (sampling_schedule, solver.prepare(sampling_schedule, schedule))
    )
    x = jnp.asarray(START.reshape(1, *SHAPE), jnp.float32)
    step, history, states = jax.jit(lambda *now: solver.step(denoiser, *now)), solver.init(x), [x]
    for i in range(sampling_schedule.num_steps):
        rows = (*sampling_schedule.pairs(), coefficients)
        now, next, row = jax.tree.map(itemgetter(i), rows)
        z = jnp.zeros_like(x) if noises is None else jnp.asarray(noises[i].reshape(x.shape))
        x, history = step(now, next, row, x, z, history)
        states.append(x)
    return np.stack(states).reshape(len(states), 4)


def rows(sampling_schedule):
    """Returns alpha, sigma, c_noise and log(alpha / sigma) of a sampling schedule."""
    w = sampling_schedule.levels
    with np.errstate(divide="ignore"):
        return w.alpha, w.sigma, w.c_noise, np.log(w.alpha) - np.log(w.sigma)


SAMPLING_SCHEDULES = [("cosine", "ends"), ("flow", "ends"), ("edm", "karras")]


def case(name, spacing, steps):
    schedule = make_schedule(name)
    return schedule, make_sampling_schedule(schedule, steps=steps, spacing=spacing)


@pytest.mark.parametrize(("name", "spacing"), SAMPLING_SCHEDULES)
@pytest.mark.parametrize("eta", [1.0, 0.5])
def test_dpmpp_sde_2m_is_k_diffusions(name, spacing, eta):
    """sample_dpmpp_2m_sde, "midpoint", which has sigma alone, is applied to x / alpha."""
    schedule, sampling_schedule = case(name, spacing, 9)
    signal, noise, c_noise, _ = rows(sampling_schedule)
    noises = np.random.default_rng(0).standard_normal((9, 4)).astype(np.float32)
    sigma, x, states, last = noise / signal, START / signal[0], [START], None
    for i in range(9):
        x0 = D(x * signal[i], c_noise[i])
        if sigma[i + 1] == 0:
            x = x0
        else:
            h = np.log(sigma[i]) - np.log(sigma[i + 1])
            x = sigma[i + 1] / sigma[i] * np.exp(-eta * h) * x - np.expm1(-h - eta * h) * x0
            if last is not None:
                r = (np.log(sigma[i - 1]) - np.log(sigma[i])) / h
                x = x + 0.5 * -np.expm1(-h - eta * h) * (1 / r) * (x0 - last)
            x = x + noises[i] * sigma[i + 1] * np.sqrt(-np.expm1(-2 * eta * h))
        last = x0
        states.append(x * signal[i + 1])
    ours = walk(SOLVERS["dpmpp_sde_2m"](eta=eta), sampling_schedule, schedule, noises)
    assert_allclose(ours, np.stack(states), rtol=2e-5, atol=1e-5)


@pytest.mark.parametrize(("name", "spacing"), SAMPLING_SCHEDULES)
def test_dpmpp_sde_2m_without_noise_is_dpmpp_2m(name, spacing):
    schedule, sampling_schedule = case(name, spacing, 9)
    for way in (sampling_schedule, sampling_schedule.reversed()):
        states = walk(SOLVERS["dpmpp_sde_2m"](eta=0.0), way, schedule)
        wanted = walk(SOLVERS["dpmpp_2m"](), way, schedule)
        assert_allclose(states, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("name", "spacing"), SAMPLING_SCHEDULES)
@pytest.mark.parametrize("steps", [9, 17])
def test_dpmpp_3m_against_its_algorithm_written_out(name, spacing, steps):
    """With differences divided by their distances, as DPM-Solver's program has it."""
    schedule, sampling_schedule = case(name, spacing, steps)
    a, s, c_noise, snr = rows(sampling_schedule)
    x, states, known = START, [START], []
    for i in range(steps):
        known.append(D(x, c_noise[i]))
        order = min(i + 1, 3)
        if steps < 15:
            order = min(order, steps - i)
        if s[i + 1] == 0:
            x = known[-1]
        else:
            h = snr[i + 1] - snr[i]
            e = np.expm1(-h)
            x = s[i + 1] / s[i] * x - a[i + 1] * e * known[-1]
            if order > 1:
                r0 = (snr[i] - snr[i - 1]) / h
                D1_0 = (known[-1] - known[-2]) / r0
            if order == 2:
                x = x - a[i + 1] * e * D1_0 / 2
            if order == 3:
                r1 = (snr[i - 1] - snr[i - 2]) / h
                D1_1 = (known[-2] - known[-3]) / r1
                D1 = D1_0 + r0 / (r0 + r1) * (D1_0 - D1_1)
                D2 = (D1_0 - D1_1) / (r0 + r1)
                x = x + a[i + 1] * (e / h + 1) * D1 - a[i + 1] * ((e + h) / h**2 - 0.5) * D2
        states.append(x)
    ours = walk(SOLVERS["dpmpp_3m"](), sampling_schedule, schedule)
    assert_allclose(ours, np.stack(states), rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize(("name", "spacing"), SAMPLING_SCHEDULES)
@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("variant", ["bh1", "bh2"])
def test_unipc_against_its_algorithm_written_out(name, spacing, order, variant):
    """UniPC (arXiv:2302.04867), algorithms 1 and 2: x is corrected, and predicted from there."""
    steps = 8
    schedule, sampling_schedule = case(name, spacing, steps)
    a, s, c_noise, snr = rows(sampling_schedule)

    def solution(r, h, p):
        """a of R a = b, times B(h), which is in b: section 3.2."""
        phi, factorial, b = np.expm1(-h) / (-h) - 1, 1.0, []
        for k in range(1, p + 1):
            b.append(phi * factorial)
            factorial *= k + 1
            phi = phi / (-h) - 1 / factorial
        R = np.stack([r ** (k - 1) for k in range(1, p + 1)])
        return np.linalg.solve(R, np.array(b))

    def update(x, i, h, p, known, newest=None):
        """From level i to i + 1 with p - 1 differences, and the newest one if it is given."""
        B = -h if variant == "bh1" else np.expm1(-h)
        r = np.array([(snr[i - m] - snr[i]) / h for m in range(1, p)])
        differences = [(known[-1 - m] - known[-1]) / r[m - 1] for m in range(1, p)]
        if newest is not None:
            r = np.append(r, 1.0)
            differences.append(newest - known[-1])
        if len(differences) == 1:
            weights = [B / 2]
        else:
            weights = solution(r, h, len(differences)) if differences else []
        x = s[i + 1] / s[i] * x - a[i + 1] * np.expm1(-h) * known[-1]
        return x - a[i + 1] * sum(w * d for w, d in zip(weights, differences))

    x, states, known, last = START, [START], [], None
    for i in range(steps):
        x0 = D(x, c_noise[i])
        if last is not None:
            x_before, h, p = last
            x = update(x_before, i - 1, h, p, known, x0)
        known.append(x0)
        p = min(order, i + 1, steps - i)
        if i == steps - 1:
            states.append(x0)
            break
        h = snr[i + 1] - snr[i]
        last = x, h, p
        x = update(x, i, h, p, known)
        states.append(x)
    ours = walk(SOLVERS["unipc"](order=order, variant=variant), sampling_schedule, schedule)
    assert_allclose(ours, np.stack(states), rtol=3e-5, atol=3e-5)


@pytest.mark.parametrize("warmup", ["heun", "runge_kutta"])
@pytest.mark.parametrize(("name", "spacing"), [("linear", "ends"), ("edm", "karras")])
def test_pndm_against_its_algorithm_written_out(name, spacing, warmup):
    """PNDM (arXiv:2202.09778), algorithm 2, in float64."""
    steps = 8
    schedule, sampling_schedule = case(name, spacing, steps)
    a, s, c_noise, _ = rows(sampling_schedule)

    def eps(x, a, s, c_noise):
        return (x - a * D(x, c_noise)) / s

    def phi(x, e, i, a_to, s_to):
        return a_to / a[i] * (x - s[i] * e) + s_to * e

    def middle(i):
        """Half-way in the c_noise: between the steps of a chain it is linear in log sigma."""
        wanted = (c_noise[i] + c_noise[i + 1]) / 2
        if name == "edm":
            return 1.0, np.exp(4 * wanted), wanted
        sigma = np.sqrt(schedule.one_minus_alphas_bar / schedule.alphas_bar)[1:]
        sigma = np.exp(np.interp(wanted, schedule.timesteps[1:], np.log(sigma)))
        return 1 / np.sqrt(1 + sigma**2), sigma / np.sqrt(1 + sigma**2), wanted

    x, states, known = START, [START], []
    for i in range(steps):
        e = eps(x, a[i], s[i], c_noise[i])
        known.append(e)
        to = a[i + 1], s[i + 1]
        if warmup == "runge_kutta" and i < 3:
            a_m, s_m, clock_m = middle(i)
            e2 = eps(phi(x, e, i, a_m, s_m), a_m, s_m, clock_m)
            e3 = eps(phi(x, e2, i, a_m, s_m), a_m, s_m, clock_m)
            e4 = eps(phi(x, e3, i, *to), *to, c_noise[i + 1])
            e = (e + 2 * e2 + 2 * e3 + e4) / 6
        elif i == 0:
            e = (e + eps(phi(x, e, i, *to), *to, c_noise[1])) / 2
        elif i == 1:
            e = (3 * e - known[-2]) / 2
        elif i == 2:
            e = (23 * e - 16 * known[-2] + 5 * known[-3]) / 12
        else:
            e = (55 * e - 59 * known[-2] + 37 * known[-3] - 9 * known[-4]) / 24
        x = phi(x, e, i, *to)
        states.append(x)
    ours = walk(SOLVERS["pndm"](warmup=warmup), sampling_schedule, schedule)
    assert_allclose(ours, np.stack(states), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("h", [1e-6, -1e-3, 0.3, -0.99, 0.99, 1.01, -3.0, 6.0])
def test_moments_are_the_integrals(h):
    points, weights = np.polynomial.legendre.leggauss(40)
    places = h * (points + 1) / 2
    wanted = [np.sum(weights * places**k * np.exp(places - h)) * h / 2 for k in range(4)]
    assert_allclose(moments(h, 4), wanted, rtol=1e-12)


RESTARTED = {
    "dpmpp_sde_2m": {},
    "dpmpp_3m": {},
    "unipc": {},
    "pndm": {"warmup": "runge_kutta"},
}


@pytest.mark.parametrize("name", RESTARTED)
def test_where_x_is_noised_again_a_solver_starts_anew(name):
    """Steps until x is noised again equal those of a sampling schedule that begins there."""
    solver, (schedule, sampling_schedule) = (
        SOLVERS[name](**RESTARTED[name]),
        case("cosine", "karras", 20),
    )
    again = resampled(sampling_schedule, jump=9, times=2)
    prepared = solver.prepare(again, schedule)
    first, second = np.flatnonzero(again.noised)
    begins = int(np.flatnonzero(sampling_schedule.levels.sigma == again.levels.sigma[first + 1])[0])
    fresh = solver.prepare(sampling_schedule.from_level(begins), schedule)
    for row, wanted in zip(jax.tree.leaves(prepared), jax.tree.leaves(fresh)):
        assert_allclose(row[first + 1 : second], wanted[: second - first - 1])


@pytest.mark.parametrize("name", RESTARTED)
def test_equal_levels_and_pure_noise_give_finite_weights(name):
    solver = SOLVERS[name](**RESTARTED[name])
    schedule = make_schedule("cosine", original_quirks=True)
    prepared = solver.prepare(make_sampling_schedule(schedule, steps=250), schedule)
    w = make_sampling_schedule(make_schedule("cosine"), steps=5).levels
    levels = Level(np.append(0.0, w.alpha), np.append(1.0, w.sigma), np.append(1000.0, w.c_noise))
    from_noise = solver.prepare(from_levels(levels), make_schedule("cosine"))
    for row in jax.tree.leaves((prepared, from_noise)):
        assert np.all(np.isfinite(row))


def test_pndm_is_stable_from_almost_pure_noise():
    """x0 = (x - noise eps) / signal: from sigma = 20,000 a mean of noises would lead astray."""
    for warmup in ("heun", "runge_kutta"):
        for name in ("cosine", "flow"):
            schedule, sampling_schedule = case(name, "ends", 12)
            assert (
                mixture.distances(SOLVERS["pndm"](warmup=warmup), sampling_schedule, schedule)[0]
                < 0.04
            )


@pytest.mark.parametrize("name", ["flow", "continuous_cosine"])
def test_20_evaluations_are_as_good_as_100_of_ddim(name):
    """By the Frechet distance between exact quantiles of the data and quantiles of the samples."""
    schedule = make_schedule(name)
    far = mixture.distances(
        SOLVERS["ddim"](), make_sampling_schedule(schedule, steps=100), schedule
    )[1]
    for solver in ("dpmpp_2m", "unipc"):
        near = mixture.distances(
            SOLVERS[solver](), make_sampling_schedule(schedule, steps=20), schedule
        )[1]
        assert near < far, (solver, near, far)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SOLVERS["dpmpp_sde_2m"](eta=-0.1), "eta=-0.1 must be at least 0"),
        (lambda: SOLVERS["unipc"](order=4), "order=4 must be 1, 2 or 3"),
        (
            lambda: SOLVERS["unipc"](variant="bh3"),
            "Unknown variant 'bh3'; known variants: bh1, bh2",
        ),
        (
            lambda: SOLVERS["pndm"](warmup="euler"),
            "Unknown warmup 'euler'; known: heun, runge_kutta",
        ),
    ],
)
def test_options_out_of_range_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
