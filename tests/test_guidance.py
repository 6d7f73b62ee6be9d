import jax
import jax.numpy as jnp
import pytest
from numpy.testing import assert_allclose

from diffusion_jax.diffusion import guidance, keys, process, timesteps
from diffusion_jax.diffusion.schedules import make_schedule
from diffusion_jax.diffusion.types import NetworkOutput

NULL = 10
SCHEDULE = make_schedule("cosine", 1000)


@pytest.fixture
def x_t():
    return jax.random.normal(jax.random.key(0), (4, 2, 2, 1))


def labelled(calls=None):
    """Noise and variance that depend on everything a network is told."""

    def network(x, timestep, labels):
        if calls is not None:
            calls.append(x.shape)
        told = (labels.astype(jnp.float32) + timestep / 1000)[:, None, None, None]
        return NetworkOutput(noise=jnp.sin(x + told), variance_fraction=jnp.cos(x * told))

    return process.denoiser_from_network(SCHEDULE, network)


LABELS = jnp.array([1, 2, 3, 4])
T = jnp.array([1, 10, 400, 700])


@pytest.mark.parametrize("w", [0.0, 0.5, 4.0])
def test_guidance_extrapolates_from_the_null_class(x_t, w):
    guided = guidance.classifier_free(labelled(), LABELS, w, NULL)(x_t, T)
    conditional = labelled()(x_t, T, LABELS)
    null = labelled()(x_t, T, jnp.full(4, NULL))
    assert_allclose(guided.noise, (1 + w) * conditional.noise - w * null.noise, atol=1e-5)
    x0 = process.x0_from_noise(SCHEDULE, x_t, T, guided.noise)
    assert_allclose(guided.x0, x0, rtol=1e-4, atol=1e-4)
    assert_allclose(guided.variance_fraction, conditional.variance_fraction, atol=1e-6)


def test_both_passes_are_one_batch(x_t):
    calls = []
    guided = guidance.classifier_free(labelled(calls), LABELS, 1.0, NULL)
    sines = [e for e in jax.make_jaxpr(guided)(x_t, T).eqns if e.primitive.name == "sin"]
    assert len(calls) == 1
    assert [sine.outvars[0].aval.size for sine in sines] == [2 * x_t.size]


def test_guidance_of_the_variance(x_t):
    guided = guidance.classifier_free(labelled(), LABELS, 2.0, NULL, guide_variance=True)(x_t, T)
    conditional = labelled()(x_t, T, LABELS).variance_fraction
    null = labelled()(x_t, T, jnp.full(4, NULL)).variance_fraction
    assert_allclose(guided.variance_fraction, 3 * conditional - 2 * null, atol=1e-5)


def test_clipping_alone_leaves_the_noise(x_t):
    denoiser = guidance.with_labels(labelled(), LABELS)
    clipped = guidance.clip_x0_alone(denoiser)(x_t, T)
    assert_allclose(clipped.x0, jnp.clip(denoiser(x_t, T).x0, -1, 1))
    assert_allclose(clipped.noise, denoiser(x_t, T).noise)


def test_clipping_changes_the_noise_with_x0(x_t):
    denoiser = guidance.with_labels(labelled(), LABELS)
    free, clipped = denoiser(x_t, T), guidance.clip_x0(SCHEDULE, denoiser)(x_t, T)
    assert jnp.abs(free.x0).max() > 1
    assert_allclose(clipped.x0, jnp.clip(free.x0, -1, 1))
    assert_allclose(process.q_sample(SCHEDULE, clipped.x0, T, clipped.noise), x_t, atol=1e-5)


def test_a_fixed_variance_hides_the_learned_one(x_t):
    denoiser = guidance.with_labels(labelled(), LABELS)
    fixed = guidance.fixed_variance(denoiser)(x_t, T)
    assert fixed.variance_fraction is None
    assert_allclose(fixed.noise, denoiser(x_t, T).noise)


def test_labels_are_dropped_one_by_one():
    some = keys.per_example(jax.random.key(0), jnp.arange(10_000))
    labels = jnp.arange(10_000) % NULL
    dropped = guidance.drop_labels(some, labels, 0.2, NULL)
    share = jnp.mean((dropped == NULL).astype(jnp.float32))
    assert_allclose(share, 0.2, atol=0.012)  # three standard deviations
    assert jnp.all((dropped == labels) | (dropped == NULL))
    assert jnp.all(guidance.drop_labels(some, labels, 0.0, NULL) == labels)


def test_training_steps_are_uniform_from_first_to_last():
    some = keys.per_example(jax.random.key(0), jnp.arange(20_000))
    t = timesteps.uniform(some, 10)
    counts = jnp.bincount(t, length=12)
    assert counts[0] == counts[11] == 0
    assert_allclose(counts[1:11], 2000, atol=140)  # over three standard deviations
