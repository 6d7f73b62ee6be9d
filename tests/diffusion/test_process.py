import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from diffusion_jax.diffusion import parameterizations, process
from diffusion_jax.diffusion.discrete_schedules import respace, steps_by_stride
from diffusion_jax.diffusion.schedules import make_schedule
from diffusion_jax.diffusion.types import NetworkOutput, Prediction

SCHEDULES = {
    "linear": make_schedule("linear", 1000),
    "cosine": make_schedule("cosine", 1000),
    "original": make_schedule("cosine", 1000, original_quirks=True),
    "respaced": respace(make_schedule("cosine", 1000), steps_by_stride(1000, 50)),
}


@pytest.fixture(params=SCHEDULES)
def schedule(request):
    return SCHEDULES[request.param]


@pytest.fixture
def t(schedule):
    last = schedule.num_steps
    return jnp.array([1, 2, last // 2, last - 1, last])


@pytest.fixture
def x0():
    return jax.random.uniform(jax.random.key(0), (5, 4, 4, 3), minval=-1)


@pytest.fixture
def noise():
    return jax.random.normal(jax.random.key(1), (5, 4, 4, 3))


def test_x0_and_noise_are_recovered_from_x_t(schedule, t, x0, noise):
    level = schedule.level(t)
    x_t = process.q_sample(level, x0, noise)
    # At the last step the image is all but gone: float32 noise divided by sqrt(alpha-bar).
    lost = 1e-6 / np.sqrt(schedule.alphas_bar[t])[:, None, None, None]
    assert np.all(abs(process.x0_from_eps(level, x_t, noise) - x0) < lost)
    lost = 1e-6 / np.sqrt(schedule.one_minus_alphas_bar[t])[:, None, None, None]
    assert np.all(abs(process.eps_from_x0(level, x_t, x0) - noise) < lost)


def test_q_sample_has_the_moments_of_its_definition(schedule):
    draws = jax.random.normal(jax.random.key(2), (1, 256, 256, 1))
    for t in (1, schedule.num_steps // 2, schedule.num_steps):
        x_t = process.q_sample(schedule.level(jnp.array([t])), jnp.full(draws.shape, 0.5), draws)
        std = np.sqrt(schedule.one_minus_alphas_bar[t])
        assert_allclose(x_t.mean(), 0.5 * np.sqrt(schedule.alphas_bar[t]), atol=0.01 * std)
        assert_allclose(x_t.std(), std, rtol=0.01)


def test_posterior_is_bayes(schedule, t, x0, noise):
    """q(x_{t-1} | x_t, x_0) from q(x_t | x_{t-1}) and q(x_{t-1} | x_0), in float64."""
    t = t[1:]  # at t = 1 the prior has no variance
    x0, x_t = x0[1:], noise[1:]
    post = process.q_posterior(schedule.steps_from(t), x0, x_t)

    def at(table):
        return table[:, None, None, None]

    a, b = at(schedule.alphas[t]), at(schedule.betas[t])
    before = at(schedule.alphas_bar[t - 1])
    if np.allclose(schedule.alphas * np.append(1, schedule.alphas_bar[:-1]), schedule.alphas_bar):
        precision = a / b + 1 / (1 - before)
        mean = (np.sqrt(a) / b * x_t + np.sqrt(before) / (1 - before) * x0) / precision
        assert_allclose(post.mean, mean, rtol=1e-5, atol=1e-6)
        assert_allclose(jnp.exp(post.log_variance), 1 / precision, rtol=1e-5)
    variance = schedule.steps_from(t).posterior_variance[:, None, None, None]
    assert_allclose(variance, jnp.exp(post.log_variance), rtol=1e-5)


def test_posterior_of_the_first_step_is_the_image(x0, noise):
    schedule = make_schedule("cosine", 1000)
    next = schedule.steps_from(jnp.ones(5, jnp.int32))
    assert_allclose(process.posterior_mean(next, x0, noise), x0, atol=1e-6)
    assert jnp.all(next.posterior_variance == 0)
    assert jnp.all(next.last)


def test_learned_variance_lies_between_its_bounds(schedule, t):
    zeros = jnp.zeros((5, 1, 1, 1))

    def learned(fraction):
        prediction = Prediction(zeros, zeros, variance_fraction=fraction)
        return process.learned_log_variance(schedule.steps_from(t), prediction)

    lower = learned(zeros)
    assert_allclose(lower[:, 0, 0, 0], schedule.log_posterior_variance[t], rtol=1e-5, atol=1e-6)
    upper = learned(zeros + 1)
    assert_allclose(upper[:, 0, 0, 0], np.log(schedule.betas[t]), rtol=1e-5, atol=1e-6)


def test_a_variance_learned_directly_is_unchanged(schedule, t, x0, noise):
    log_variance = jnp.linspace(-9, 2, x0.size).reshape(x0.shape)
    prediction = Prediction(x0, noise, log_variance=log_variance)
    p = process.p_distribution(schedule.steps_from(t), prediction, noise)
    assert_array_equal(p.log_variance, log_variance)
    assert process.learned_log_variance(schedule.steps_from(t), Prediction(x0, noise)) is None


def test_a_learned_variance_stays_where_exp_is_finite(schedule, t, x0, noise):
    next = schedule.steps_from(t)
    for far, bound in ((-1e3, -30), (1e3, 30)):
        prediction = Prediction(x0, noise, log_variance=jnp.full_like(x0, far))
        assert jnp.all(process.learned_log_variance(next, prediction) == bound)


def test_the_variance_is_the_small_one_where_none_is_learned(schedule, t, x0, noise):
    next = schedule.steps_from(t)
    p = process.p_distribution(next, Prediction(x0, noise), noise)
    assert_array_equal(p.log_variance[:, 0, 0, 0], next.log_posterior_variance)


def test_a_perfect_network_makes_p_the_posterior(schedule, t, x0, noise):
    x_t, next = process.q_sample(schedule.level(t), x0, noise), schedule.steps_from(t)
    prediction = Prediction(x0=x0, eps=noise, variance_fraction=jnp.zeros_like(x0))
    p = process.p_distribution(next, prediction, x_t)
    q = process.q_posterior(next, x0, x_t)
    assert_allclose(p.mean, q.mean)
    assert_allclose(p.log_variance, jnp.broadcast_to(q.log_variance, x0.shape), atol=1e-6)


def test_a_respaced_chain_keeps_the_old_timesteps(x0):
    visited = []

    def network(x, c_noise, labels):
        visited.append(c_noise)
        return NetworkOutput(estimate=x.astype(jnp.bfloat16))

    schedule = SCHEDULES["respaced"]
    denoiser = parameterizations.denoiser_from_network(network, parameterizations.eps())
    prediction = denoiser(x0, schedule.level(jnp.array([1, 2, 3, 4, 20])), None)
    assert visited[0].tolist() == [1, 51, 101, 151, 951]
    assert prediction.eps.dtype == jnp.float32
    assert prediction.variance_fraction is None
