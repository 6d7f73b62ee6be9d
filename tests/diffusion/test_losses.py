from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from diffusion_jax.diffusion import losses, process
from diffusion_jax.diffusion.schedules import make_schedule
from diffusion_jax.diffusion.types import Gaussian, Prediction

SCHEDULE = make_schedule("cosine", 1000)


@pytest.fixture
def example():
    keys = jax.random.split(jax.random.key(0), 4)
    levels = jax.random.randint(keys[0], (4, 8, 8, 1), 0, 256)
    x0 = levels.astype(jnp.float32) / 127.5 - 1
    noise, guess = (jax.random.normal(key, x0.shape) for key in keys[1:3])
    t = jnp.array([1, 2, 500, 1000])
    x_t = process.q_sample(SCHEDULE.level(t), x0, noise)
    fraction = jax.random.uniform(keys[3], x0.shape)
    return x0, x_t, t, noise, guess, fraction


def predict(x_t, t, noise, fraction):
    return Prediction(process.x0_from_eps(SCHEDULE.level(t), x_t, noise), noise, fraction)


def test_distances_of_an_estimate_from_its_target():
    target, estimate = jnp.zeros((2, 1, 2, 1)), jnp.array([1.0, -2, 0, 3]).reshape(2, 1, 2, 1)
    assert_allclose(losses.ERRORS["squared"](target, estimate), [2.5, 4.5])
    assert_allclose(losses.ERRORS["absolute"](target, estimate), [1.5, 1.5])


def test_kl_of_two_normals():
    a = Gaussian(jnp.full((1, 1, 1, 1), 0.3), jnp.full((1, 1, 1, 1), np.log(0.5)))
    b = Gaussian(jnp.full((1, 1, 1, 1), -0.2), jnp.full((1, 1, 1, 1), np.log(2.0)))
    assert_allclose(losses.kl_divergence(a, a), 0, atol=1e-7)
    closed_form = np.log(np.sqrt(2 / 0.5)) + (0.5 + 0.5**2) / (2 * 2) - 0.5
    assert_allclose(losses.kl_divergence(a, b)[0, 0, 0, 0], closed_form, rtol=1e-6)


@pytest.mark.parametrize("mean", [-1.2, -0.999, 0.0, 0.4, 1.0])
@pytest.mark.parametrize("std", [0.003, 0.1, 2.0])
def test_decoder_masses_of_all_levels_sum_to_one(mean, std):
    levels = (jnp.arange(256, dtype=jnp.float32) / 127.5 - 1).reshape(256, 1, 1, 1)
    p = Gaussian(jnp.full(levels.shape, mean), jnp.full(levels.shape, 2 * np.log(std)))
    nll = losses.decoder_nll(levels, p)
    assert_allclose(jnp.exp(-nll).sum(), 1, rtol=1e-5)


def test_decoder_gradient_is_finite_at_the_ends():
    x0 = jnp.array([-1.0, 1.0, 0.0]).reshape(3, 1, 1, 1)

    def total(log_variance):
        return losses.decoder_nll(x0, Gaussian(-x0, log_variance)).sum()

    assert jnp.all(jnp.isfinite(jax.grad(total)(jnp.full(x0.shape, -8.0))))


def test_a_perfect_prediction_costs_nothing_but_the_decoder(example):
    x0, x_t, t, noise, _, fraction = example
    prediction = Prediction(x0, noise, jnp.zeros_like(fraction))
    assert_allclose(losses.squared_error(noise, prediction.eps), 0)
    terms = losses.vlb(SCHEDULE.steps_from(t), x0, x_t, prediction)
    assert_allclose(terms[1:], 0, atol=1e-6)
    assert terms[0] > 0


def test_the_bound_is_kl_and_at_the_first_step_the_decoder(example):
    x0, x_t, t, _, guess, fraction = example
    prediction = predict(x_t, t, guess, fraction)
    terms = losses.vlb(SCHEDULE.steps_from(t), x0, x_t, prediction)
    p = process.p_distribution(SCHEDULE.steps_from(t), prediction, x_t)
    q = process.q_posterior(SCHEDULE.steps_from(t), x0, x_t)
    assert_allclose(terms[1:], losses.kl_divergence(q, p).mean((1, 2, 3))[1:], rtol=1e-6)
    assert_allclose(terms[0], losses.decoder_nll(x0, p).mean((1, 2, 3))[0], rtol=1e-6)


@pytest.mark.parametrize("kind", ["small", "large"])
def test_the_bound_with_a_fixed_variance_in_float64(kind, example):
    """KL of two normals whose variances are beta-tilde and beta-tilde or beta; DDPM eq. 5 to 7."""
    x0, x_t, t, noise, guess, _ = example
    prediction = replace(predict(x_t, t, guess, None), variance_fraction=None)
    terms = losses.LOSSES["vlb"](variance=kind).vlb(SCHEDULE.steps_from(t), x0, x_t, prediction)
    alpha_bar = np.cos((np.arange(1001) / 1000 + 0.008) / 1.008 * np.pi / 2) ** 2
    beta = np.minimum(1 - alpha_bar[1:] / alpha_bar[:-1], 0.999)
    left = np.concatenate([[1.0], np.cumprod(1 - beta)])
    for row, step in enumerate(np.asarray(t)):
        if step == 1:
            continue  # the decoder's
        now, before, b = left[step], left[step - 1], beta[step - 1]
        tilde = (1 - before) / (1 - now) * b
        eps, guessed = (np.asarray(a[row], np.float64) for a in (noise, guess))
        error = np.sqrt(1 - now) / np.sqrt(now) * (guessed - eps)
        distance = np.mean((np.sqrt(before) * b / (1 - now) * error) ** 2)
        variance = {"small": tilde, "large": b}[kind]
        ratio = tilde / variance
        expected = 0.5 * (ratio - 1 - np.log(ratio) + distance / variance)
        assert_allclose(terms[row], expected, rtol=2e-4)
    with pytest.raises(ValueError, match="small or large"):
        losses.LOSSES["vlb"](variance="tiny")


def test_the_decoder_has_the_same_variance_with_small_and_large(example):
    """OpenAI's programs: the likelihood of the last step is better with the small one."""
    x0, x_t, t, _, guess, _ = example
    prediction = replace(predict(x_t, t, guess, None), variance_fraction=None)
    next = SCHEDULE.steps_from(t)
    small, large = (
        losses.vlb(next, x0, x_t, prediction, fixed=kind) for kind in ("small", "large")
    )
    assert small[0] == large[0]
    assert np.all(small[1:] != large[1:])


def test_a_variance_learned_directly_is_trained(example):
    x0, x_t, t, noise, guess, _ = example
    plain = replace(predict(x_t, t, guess, None), variance_fraction=None)

    def total(log_variance):
        prediction = replace(plain, log_variance=log_variance)
        parts = losses.diffusion_loss(
            losses.hybrid(),
            losses.squared_error(noise, guess),
            SCHEDULE.steps_from(t),
            x0,
            x_t,
            prediction,
            vlb_weight=1.0,
        )
        return parts["vlb"].sum()

    # d KL / d log variance = (1 - (var_q + distance^2) / var_p) / 2, averaged over the image.
    log_variance = jnp.full(x0.shape, -3.0)
    slope = jax.grad(total)(log_variance)
    q = process.q_posterior(SCHEDULE.steps_from(t), x0, x_t)
    mean = process.posterior_mean(SCHEDULE.steps_from(t), plain.x0, x_t)
    spread = jnp.exp(q.log_variance) + jnp.square(q.mean - mean)
    expected = 0.5 * (1 - spread * np.exp(3.0)) / x0[0].size
    assert_allclose(slope[1:], expected[1:], rtol=1e-4, atol=1e-7)


def total_loss(kind, example, guess, fraction, weight=0.1):
    x0, x_t, t, noise, _, _ = example
    parts = losses.diffusion_loss(
        losses.LOSSES[kind](),
        losses.squared_error(noise, guess),
        SCHEDULE.steps_from(t),
        x0,
        x_t,
        predict(x_t, t, guess, fraction),
        vlb_weight=weight,
    )
    return parts["loss"].sum(), parts


def test_hybrid_is_simple_plus_the_weighted_bound(example):
    *_, guess, fraction = example
    _, parts = total_loss("hybrid", example, guess, fraction, weight=0.25)
    assert_allclose(parts["loss"], parts["simple"] + 0.25 * parts["vlb"], rtol=1e-6)
    assert parts["loss"].shape == (4,)


def test_in_hybrid_the_bound_trains_the_variance_only(example):
    *_, guess, fraction = example
    gradient = jax.grad(total_loss, argnums=(2, 3), has_aux=True)
    (hybrid_guess, hybrid_fraction), _ = gradient("hybrid", example, guess, fraction)
    (simple_guess, simple_fraction), _ = gradient("simple", example, guess, fraction)
    (vlb_guess, vlb_fraction), _ = gradient("vlb", example, guess, fraction)
    assert_allclose(hybrid_guess, simple_guess, rtol=1e-6)
    assert_allclose(hybrid_fraction, 0.1 * vlb_fraction, rtol=1e-5, atol=1e-9)
    assert jnp.all(simple_fraction == 0)
    assert jnp.abs(vlb_guess).max() > 0
