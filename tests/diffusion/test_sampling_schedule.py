"""Levels and sampling schedules, against formulas written out by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from table_cases import CONTINUOUS, DISCRETE

from diffusion_jax.diffusion import keys
from diffusion_jax.diffusion.discrete_schedules import respace, steps_by_count
from diffusion_jax.diffusion.sampling_schedule import from_levels
from diffusion_jax.diffusion.schedules import make_schedule
from diffusion_jax.diffusion.types import Level
from diffusion_jax.sampling import make_sampling_schedule

STEP = ("beta", "posterior_variance", "log_posterior_variance", "posterior_x0", "posterior_x")


def some_keys(count):
    return keys.per_example(jax.random.key(0), jnp.arange(count))


@pytest.mark.parametrize("name", DISCRETE)
@pytest.mark.parametrize("steps", [5, 1000])
def test_coefficients_from_levels_equal_those_from_betas(name, steps):
    """beta and the posterior from two levels alone are what the tables of the chain say."""
    sampling_schedule = make_schedule(name).sampling_schedule(steps)
    of_chain, of_levels = sampling_schedule.steps, from_levels(sampling_schedule.levels).steps
    for field in STEP:
        assert_allclose(
            getattr(of_levels, field), getattr(of_chain, field), rtol=1e-6, err_msg=field
        )
    assert_allclose(of_levels.log_snr_step[:-1], of_chain.log_snr_step[:-1], rtol=1e-9)
    for found in (of_chain, of_levels):
        assert found.log_snr_step[-1] == np.inf
        assert found.last.tolist() == [False] * (steps - 1) + [True]


@pytest.mark.parametrize("name", [*DISCRETE, *CONTINUOUS])
def test_the_posterior_is_bayes_at_any_levels(name):
    """q(next | now, x0) from q(now | next) and q(next | x0), in float64."""
    sampling_schedule = make_sampling_schedule(make_schedule(name), steps=7)
    w, step = sampling_schedule.levels, sampling_schedule.steps
    for i in range(sampling_schedule.num_steps - 1):  # at the clean image the prior has no variance
        ratio = w.alpha[i] / w.alpha[i + 1]
        spread = w.sigma[i] ** 2 - (ratio * w.sigma[i + 1]) ** 2
        precision = ratio**2 / spread + 1 / w.sigma[i + 1] ** 2
        assert_allclose(step.beta[i], spread, rtol=1e-6)
        assert_allclose(step.posterior_variance[i], 1 / precision, rtol=1e-6)
        assert_allclose(step.posterior_x[i], ratio / spread / precision, rtol=1e-6)
        # Without the difference: what is left of the noise is what the mean takes over from x.
        left = (step.posterior_x[i] * w.sigma[i]) ** 2
        assert_allclose(step.variance_left[i], left, rtol=1e-6)
        x0 = w.alpha[i + 1] / w.sigma[i + 1] ** 2 / precision
        assert_allclose(step.posterior_x0[i], x0, rtol=1e-6)
        snr = np.log(w.alpha * 1.0) - np.log(np.maximum(w.sigma, 1e-300))
        assert_allclose(step.log_snr_step[i], snr[i + 1] - snr[i], rtol=1e-9)


@pytest.mark.parametrize("name", [*DISCRETE, *CONTINUOUS])
@pytest.mark.parametrize("spacing", ["ends", "karras"])
def test_sampling_schedules_end_at_the_clean_image(name, spacing):
    sampling_schedule = make_sampling_schedule(make_schedule(name), steps=18, spacing=spacing)
    w = sampling_schedule.levels
    assert sampling_schedule.num_steps == 18
    assert (w.alpha[-1], w.sigma[-1], w.c_noise[-1]) == (1, 0, 0)
    assert np.all(sampling_schedule.steps.log_snr_step > 0)
    assert np.all(np.isfinite(sampling_schedule.steps.log_posterior_variance))
    assert_allclose(sampling_schedule.init_noise_std, 80 if name == "edm" else 1, rtol=1e-6)


def test_edm_visits_the_published_levels():
    """EDM's grid of 18 steps, and the c_noise of its network."""
    w = make_sampling_schedule(make_schedule("edm"), steps=18).levels
    assert_allclose(w.sigma[:3], [80, 57.585985, 40.785574], rtol=1e-7)
    assert_allclose(w.sigma[-3:], [0.00752802, 0.002, 0], rtol=1e-6)
    c_noise = make_schedule("edm").level(np.array([0.002, 0.5, 80]), np).c_noise
    assert_allclose(c_noise, [-1.553652, -0.173287, 1.095507], atol=1e-6)


@pytest.mark.parametrize("name", CONTINUOUS)
def test_levels_of_continuous_schedules(name):
    """Training draws levels in range; a level is found again from noise / signal."""
    schedule = make_schedule(name)
    drawn = schedule.level(schedule.draw(some_keys(20_000)))
    sigma = np.asarray(drawn.sigma / drawn.alpha, np.float64)
    smallest, largest = schedule.sigma_range
    if name == "edm":
        assert_allclose([np.log(sigma).mean(), np.log(sigma).std()], [-1.2, 1.2], atol=0.03)
    else:
        assert smallest * 0.99 <= sigma.min() < sigma.max() <= largest * 1.02
    if name == "flow":
        assert_allclose(drawn.alpha, 1 - drawn.sigma, atol=1e-6)
        assert_allclose(drawn.sigma.mean(), 0.5, atol=0.01)
    if name == "continuous_cosine":
        assert_allclose(drawn.alpha**2 + drawn.sigma**2, 1, atol=1e-6)
        share = jnp.mean((drawn.sigma < np.sin(np.pi / 2 * 0.3)).astype(jnp.float32))
        assert_allclose(share, 0.3, atol=0.012)
    again = schedule.at_sigma(sigma)
    assert_allclose(again.sigma / again.alpha, sigma, rtol=1e-9)
    under_jit = jax.jit(lambda s: schedule.at_sigma(s, jnp))(jnp.asarray(sigma, jnp.float32))
    assert_allclose(under_jit.c_noise, again.c_noise, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", DISCRETE)
def test_c_noise_between_steps_is_interpolated_in_log_snr(name):
    chain = make_schedule(name)
    t = np.array([1, 2, 500, 999, 1000])
    sigma = np.sqrt(chain.one_minus_alphas_bar / chain.alphas_bar)
    at = chain.at_sigma(sigma[t])
    assert_allclose(at.c_noise, t, rtol=1e-9)
    assert_allclose(at.alpha, np.sqrt(chain.alphas_bar[t]), rtol=1e-9)
    assert_allclose(at.sigma, np.sqrt(chain.one_minus_alphas_bar[t]), rtol=1e-9)
    between = chain.at_sigma(np.sqrt(sigma[500] * sigma[501]))
    assert_allclose(between.c_noise, 500.5, rtol=1e-9)
    assert chain.at_sigma(np.array(1e9)).c_noise == 1000
    assert chain.at_sigma(np.array(1e-9)).c_noise == 1


def test_the_rest_of_a_sampling_schedule():
    chain = respace(make_schedule("cosine"), steps_by_count(1000, 10))
    whole = chain.sampling_schedule()
    rest = whole.from_level(4)
    assert rest.num_steps == 6
    assert_allclose(rest.start.sigma, whole.levels.sigma[4], rtol=1e-6)
    assert_allclose(rest.levels.sigma, whole.levels.sigma[4:])
    assert_allclose(rest.steps.beta, whole.steps.beta[4:])
    with pytest.raises(ValueError, match=r"first=10 is not in 0\.\.9"):
        whole.from_level(10)


def test_a_climbing_schedule_starts_where_there_is_noise():
    down = make_sampling_schedule(make_schedule("cosine"), steps=10)
    up = down.reversed()
    assert_allclose(up.levels.sigma, down.levels.sigma[-2::-1])
    assert np.all(up.steps.log_snr_step < 0)
    assert np.all(up.steps.posterior_variance == 0)
    assert all(np.all(np.isfinite(getattr(up.steps, field))) for field in STEP)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: from_levels(Level(np.ones(1), np.ones(1), np.ones(1))),
            "at least two",
        ),
        (
            lambda: from_levels(Level(np.ones(2), np.ones(2), np.ones(2))),
            "are the same",
        ),
        (
            lambda: make_sampling_schedule(make_schedule("edm"), steps=5, stride=3),
            "stride=3 needs a discrete schedule",
        ),
        (
            lambda: make_sampling_schedule(make_schedule("flow"), steps=5, spacing="centered"),
            "continuous",
        ),
        (
            lambda: make_sampling_schedule(make_schedule("flow"), steps=5, spacing="odd"),
            "ends, centered, karras",
        ),
        (
            lambda: make_sampling_schedule(
                make_schedule("edm"), steps=5, spacing="karras", sigma_min=90.0
            ),
            "sigma_min=90.0 must be less than sigma_max=80.0",
        ),
    ],
)
def test_mistakes_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
