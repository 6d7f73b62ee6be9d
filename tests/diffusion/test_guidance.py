import jax
import jax.numpy as jnp
import pytest
from numpy.testing import assert_allclose

from diffusion_jax.diffusion import guidance, keys, process
from diffusion_jax.diffusion.parameterizations import denoiser_from_network, eps
from diffusion_jax.diffusion.schedules import make_schedule
from diffusion_jax.diffusion.types import NetworkOutput

NULL = 10
SCHEDULE = make_schedule("cosine", 1000)


@pytest.fixture
def x_t():
    return jax.random.normal(jax.random.key(0), (4, 2, 2, 1))


def labeled(calls=None):
    """A network whose outputs depend on x, c_noise and labels."""

    def network(x, c_noise, labels):
        if calls is not None:
            calls.append(x.shape)
        condition = (labels.astype(jnp.float32) + c_noise / 1000)[:, None, None, None]
        return NetworkOutput(
            estimate=jnp.sin(x + condition), variance_fraction=jnp.cos(x * condition)
        )

    return denoiser_from_network(network, eps())


LABELS = jnp.array([1, 2, 3, 4])
LEVEL = SCHEDULE.level(jnp.array([1, 10, 400, 700]))
NULLS = jnp.full(4, NULL)


@pytest.mark.parametrize("w", [0.0, 0.5, 4.0])
def test_guidance_extrapolates_from_the_null_class(x_t, w):
    guided = guidance.classifier_free(labeled(), LABELS, NULLS, w)(x_t, LEVEL)
    conditional = labeled()(x_t, LEVEL, LABELS)
    null = labeled()(x_t, LEVEL, jnp.full(4, NULL))
    assert_allclose(guided.eps, (1 + w) * conditional.eps - w * null.eps, atol=1e-5)
    x0 = process.x0_from_eps(LEVEL, x_t, guided.eps)
    assert_allclose(guided.x0, x0, rtol=1e-4, atol=1e-4)
    assert_allclose(guided.variance_fraction, conditional.variance_fraction, atol=1e-6)


def test_both_passes_are_one_batch(x_t):
    calls = []
    guided = guidance.classifier_free(labeled(calls), LABELS, NULLS, 1.0)
    sines = [e for e in jax.make_jaxpr(guided)(x_t, LEVEL).eqns if e.primitive.name == "sin"]
    assert len(calls) == 1
    assert [sine.outvars[0].aval.size for sine in sines] == [2 * x_t.size]


def test_guidance_of_the_variance(x_t):
    guided = guidance.classifier_free(labeled(), LABELS, NULLS, 2.0, guide_variance=True)(
        x_t, LEVEL
    )
    conditional = labeled()(x_t, LEVEL, LABELS).variance_fraction
    null = labeled()(x_t, LEVEL, jnp.full(4, NULL)).variance_fraction
    assert_allclose(guided.variance_fraction, 3 * conditional - 2 * null, atol=1e-5)


def test_clipping_alone_leaves_the_noise(x_t):
    denoiser = guidance.with_condition(labeled(), LABELS)
    clipped = guidance.clip_x0_only(denoiser)(x_t, LEVEL)
    assert_allclose(clipped.x0, jnp.clip(denoiser(x_t, LEVEL).x0, -1, 1))
    assert_allclose(clipped.eps, denoiser(x_t, LEVEL).eps)


def test_clipping_changes_the_noise_with_x0(x_t):
    denoiser = guidance.with_condition(labeled(), LABELS)
    free, clipped = denoiser(x_t, LEVEL), guidance.clip_x0(denoiser)(x_t, LEVEL)
    assert jnp.abs(free.x0).max() > 1
    assert_allclose(clipped.x0, jnp.clip(free.x0, -1, 1))
    assert_allclose(process.q_sample(LEVEL, clipped.x0, clipped.eps), x_t, atol=1e-5)


def test_a_fixed_variance_hides_the_learned_one(x_t):
    denoiser = guidance.with_condition(labeled(), LABELS)
    fixed = guidance.drop_learned_variance(denoiser)(x_t, LEVEL)
    assert fixed.variance_fraction is None
    assert_allclose(fixed.eps, denoiser(x_t, LEVEL).eps)


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
    t = make_schedule("cosine", 10).draw(some)
    counts = jnp.bincount(t, length=12)
    assert counts[0] == counts[11] == 0
    assert_allclose(counts[1:11], 2000, atol=140)  # over three standard deviations
