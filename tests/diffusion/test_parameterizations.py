"""Parameterizations: targets of the network, and weights of its errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from table_cases import OF_X0, TARGETS

from diffusion_jax.config.schema import choose
from diffusion_jax.diffusion import parameterizations, process, weights
from diffusion_jax.diffusion.parameterizations import PARAMETERIZATIONS
from diffusion_jax.diffusion.types import Level, NetworkOutput

# Variance-preserving, flow and EDM: (alpha, sigma).
LEVELS = {
    "vp": ([0.999, 0.8, 0.1], [np.sqrt(1 - 0.999**2), 0.6, np.sqrt(0.99)]),
    "flow": ([0.9, 0.5, 0.01], [0.1, 0.5, 0.99]),
    "edm": ([1.0, 1.0, 1.0], [0.05, 0.5, 20.0]),
}


def level_of(kind):
    alpha, sigma = (jnp.array(row, jnp.float32) for row in LEVELS[kind])
    return Level(alpha, sigma, jnp.zeros(3))


@pytest.fixture
def pair():
    x0 = jax.random.uniform(jax.random.key(0), (3, 4, 4, 2), minval=-1)
    return x0, jax.random.normal(jax.random.key(1), x0.shape)


@pytest.mark.parametrize("name", PARAMETERIZATIONS)
@pytest.mark.parametrize("kind", LEVELS)
def test_the_target_solves_for_x0_and_noise(name, kind, pair):
    x0, noise = pair
    level, made = level_of(kind), PARAMETERIZATIONS[name]()
    x = process.q_sample(level, x0, noise)
    found = made.solve(level, x, made.target(level, x0, noise))
    lost = 2e-6 / np.minimum(level.alpha, level.sigma)[:, None, None, None]
    assert np.all(abs(found[0] - x0) < lost)
    assert np.all(abs(found[1] - noise) < lost)


@pytest.mark.parametrize("name", PARAMETERIZATIONS)
@pytest.mark.parametrize("kind", LEVELS)
def test_any_answer_gives_two_halves_of_x(name, kind, pair):
    x, answer = pair
    level = level_of(kind)
    x0, noise = PARAMETERIZATIONS[name]().solve(level, x, answer)
    size = jnp.abs(x0).max() + jnp.abs(noise).max()
    assert_allclose(process.q_sample(level, x0, noise), x, atol=1e-6 * size)


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("kind", LEVELS)
def test_targets_are_those_of_the_papers(name, kind, pair):
    x0, noise = (np.asarray(part, np.float64) for part in pair)
    a, s = (np.array(row, np.float64)[:, None, None, None] for row in LEVELS[kind])
    made = choose(PARAMETERIZATIONS, name, "parameterization.name")()
    wanted = TARGETS[name](a, s, x0, noise)
    assert_allclose(made.target(level_of(kind), *pair), wanted, rtol=2e-5, atol=2e-5)


def test_input_scaling():
    vp, flow, edm = map(level_of, LEVELS)
    for name in ("eps", "x0", "v"):
        scale = PARAMETERIZATIONS[name]().scale_input
        assert jnp.all(scale(vp) == 1)  # to the last bit
        assert_allclose(scale(edm)[:, 0, 0, 0], 1 / np.sqrt(1 + np.square(LEVELS["edm"][1])), 1e-6)
    assert jnp.all(parameterizations.velocity().scale_input(flow) == 1)
    scale = parameterizations.edm(sigma_data=0.7).scale_input(edm)[:, 0, 0, 0]
    assert_allclose(scale, 1 / np.sqrt(0.7**2 + np.square(LEVELS["edm"][1])), rtol=1e-6)


def test_network_inputs_are_scaled_images_and_c_noise(pair):
    seen = []

    def network(x, c_noise, condition):
        seen.append((x, c_noise, condition))
        return NetworkOutput(estimate=x.astype(jnp.bfloat16))

    x = pair[0]
    level = Level(jnp.float32(1), jnp.float32(2), jnp.float32(7))  # one for the whole batch
    denoiser = parameterizations.denoiser_from_network(network, parameterizations.edm())
    prediction = denoiser(x, level, "condition")
    (scaled, c_noise, condition), factor = seen[0], 1 / np.sqrt(4.25)
    assert_allclose(scaled, x * factor, rtol=1e-6)
    assert c_noise.tolist() == [7, 7, 7]
    assert condition == "condition"
    c_skip, c_out = 0.25 / 4.25, 2 * 0.5 / np.sqrt(4.25)
    assert_allclose(prediction.x0, c_skip * x + c_out * factor * x, atol=1e-2)
    assert prediction.x0.dtype == jnp.float32


@pytest.mark.parametrize("name", PARAMETERIZATIONS)
@pytest.mark.parametrize("kind", LEVELS)
def test_gain_is_the_error_of_x0_by_the_error_of_the_target(name, kind, pair):
    level, made = level_of(kind), PARAMETERIZATIONS[name]()
    x, answer = pair
    difference = made.solve(level, x, answer + 1)[0] - made.solve(level, x, answer)[0]
    gain = weights.gain(made, level)
    scale = jnp.abs(gain).max() + jnp.abs(answer).max() / jnp.min(level.alpha)
    assert_allclose(difference[:, 0, 0, 0], gain, atol=1e-6 * scale)


@pytest.mark.parametrize("weight", OF_X0)
@pytest.mark.parametrize("name", PARAMETERIZATIONS)
@pytest.mark.parametrize("kind", LEVELS)
def test_weights_are_those_of_the_papers_whatever_the_target(weight, name, kind):
    """weight x (error of the target)^2 = published weight x (error of x0)^2."""
    level = level_of(kind)
    gain = weights.gain(PARAMETERIZATIONS[name](), level)
    of_target = choose(weights.WEIGHTS, weight, "loss.weight")(level, gain)
    a, s = (np.array(row, np.float64) for row in LEVELS[kind])
    assert_allclose(of_target / gain**2, OF_X0[weight](a**2 / s**2), rtol=2e-5)


def test_edm_weighs_its_own_target_evenly():
    """EDM's weight(0.5) of the error of x0 is 8, and for the network's own output it is 1."""
    level = Level(jnp.ones(2), jnp.array([0.5, 3.0]), jnp.zeros(2))
    gain = weights.gain(parameterizations.edm(), level)
    assert_allclose(weights.edm(level, gain), 1, rtol=1e-6)
    assert_allclose(weights.edm(level, jnp.ones(2))[0], 8, rtol=1e-6)
    assert jnp.all(weights.uniform(level, gain) == 1)
    gain = weights.gain(parameterizations.edm(sigma_data=0.7), level)
    assert_allclose(weights.edm(level, gain, sigma_data=0.7), 1, rtol=1e-6)


@pytest.mark.parametrize(("weight", "option"), [("min_snr", "gamma"), ("edm", "sigma_data")])
def test_options_of_weights_must_be_positive(weight, option):
    with pytest.raises(ValueError, match=f"{option}=0.0"):
        weights.WEIGHTS[weight](level_of("vp"), jnp.ones(3), **{option: 0.0})
