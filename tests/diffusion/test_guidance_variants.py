"""Guidance where and how much: intervals, rescaling, thresholds, classifiers, a weaker run."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from diffusion_jax.diffusion import guidance, keys, process
from diffusion_jax.diffusion.classifier_guidance import classifier_guidance
from diffusion_jax.diffusion.schedules import make_schedule
from diffusion_jax.diffusion.types import Level, Prediction
from diffusion_jax.sampling import SOLVERS, make_sampling_schedule, sample

SHAPE = (2, 2, 1)
# Two classes of images whose pixels are independent: N(MEANS[y], STDS[y]^2), equally likely.
MEANS, STDS = np.array([-0.5, 0.7]), np.array([0.2, 0.4])


@pytest.fixture
def x():
    return 2 * jax.random.normal(jax.random.key(1), (3, *SHAPE))


def level(signal, noise):
    return Level(*(jnp.float32(v) for v in (signal, noise, 1.0)))


LEVELS = [level(0.6, 0.8), level(1.0, 3.0), level(0.3, 0.7)]  # preserving, exploding, flow


def of_class(x, level, y):
    """E[x0 | x, y]."""
    a, s = process.per_image(level.alpha), process.per_image(level.sigma)
    mean, std = (jnp.asarray(table, jnp.float32)[y] for table in (MEANS, STDS))
    x0 = mean + a * std**2 / (a**2 * std**2 + s**2) * (x - a * mean)
    return Prediction(x0, (x - a * x0) / s)


def log_likelihood(x, level, y):
    """log p(x | y) of each image."""
    a, s = level.alpha, level.sigma
    mean, std = (jnp.asarray(table, jnp.float32)[y] for table in (MEANS, STDS))
    variance = a**2 * std**2 + s**2
    return jnp.sum(-0.5 * (x - a * mean) ** 2 / variance - 0.5 * jnp.log(variance), axis=(1, 2, 3))


def of_all(x, level):
    """E[x0 | x], with the classes weighed by p(y | x)."""
    likely = jax.nn.softmax(jnp.stack([log_likelihood(x, level, y) for y in (0, 1)]), axis=0)
    each = [of_class(x, level, y) for y in (0, 1)]
    weights = [weight[:, None, None, None] for weight in likely]
    return Prediction(
        *(
            sum(weight * getattr(one, name) for weight, one in zip(weights, each))
            for name in ("x0", "eps")
        )
    )


@pytest.mark.parametrize("at", LEVELS)
@pytest.mark.parametrize("y", [0, 1])
def test_an_exact_classifier_makes_the_conditional_denoiser(x, at, y):
    """Bayes: grad log p(x | y) = grad log p(x) + grad log p(y | x)."""

    def log_probability(x, level):
        both = jnp.stack([log_likelihood(x, level, k) for k in (0, 1)])
        return jax.nn.log_softmax(both, axis=0)[y]

    guided = classifier_guidance(of_all, log_probability, 1.0)(x, at)
    wanted = of_class(x, at, y)
    assert_allclose(guided.x0, wanted.x0, atol=2e-5)
    assert_allclose(guided.eps, wanted.eps, atol=2e-5)
    assert np.abs(of_all(x, at).x0 - wanted.x0).max() > 0.01
    # Twice the scale goes twice as far.
    twice = classifier_guidance(of_all, log_probability, 2.0)(x, at)
    assert_allclose(twice.x0, 2 * wanted.x0 - of_all(x, at).x0, atol=5e-5)


def openai_samples(betas, noises, x, variance, fraction, scale):
    """States of p_sample with condition_mean in guided-diffusion, in float64, for this model.

    eps = sin(x) / 2 + t / 10, clipped x0, log p(y | x) = -|x - 0.3|^2; v of the learned variance
    is `fraction`.
    """
    kept = np.cumprod(1 - betas)
    before = np.append(1.0, kept[:-1])
    posterior = betas * (1 - before) / (1 - kept)
    clipped = np.append(posterior[1], posterior[1:])
    variances = {
        "small": posterior,
        "large": np.append(posterior[1], betas[1:]),
        "learned": np.exp(fraction * np.log(betas) + (1 - fraction) * np.log(clipped)),
    }[variance]
    states = []
    for t in reversed(range(len(betas))):
        eps = np.sin(x) / 2 + (t + 1) / 10
        x0 = np.clip(np.sqrt(1 / kept[t]) * x - np.sqrt(1 / kept[t] - 1) * eps, -1, 1)
        mean = np.sqrt(before[t]) * betas[t] / (1 - kept[t]) * x0
        mean += np.sqrt(1 - betas[t]) * (1 - before[t]) / (1 - kept[t]) * x
        mean += variances[t] * scale * -2 * (x - 0.3)
        x = mean + (t > 0) * np.sqrt(variances[t]) * noises[t]
        states.append(x)
    return np.array(states)


@pytest.mark.parametrize("variance", ["small", "large", "learned"])
def test_ddpm_shifts_its_mean_as_openai_s_condition_mean(x, variance):
    steps, scale, fraction = 6, 1.5, 0.3
    schedule = make_schedule("linear", num_steps=steps, rescale=False)
    betas = np.linspace(1e-4, 0.02, steps)
    solver = SOLVERS["ddpm"](variance=variance, classifier_rule="mean")
    settings = guidance.Guidance(
        classifier_scale=scale, shift_mean=solver.conventions.shift_mean, clip=True
    )

    def model(x, level, condition):
        a, s = process.per_image(level.alpha), process.per_image(level.sigma)
        eps = jnp.sin(x) / 2 + process.per_image(level.c_noise) / 10
        v = jnp.full_like(x, fraction) if variance == "learned" else None
        return Prediction((x - s * eps) / a, eps, variance_fraction=v)

    def log_probability(x, level):
        return -jnp.sum((x - 0.3) ** 2, axis=(1, 2, 3))

    denoiser = guidance.guide(settings, model, None, log_probability=log_probability)
    path = make_sampling_schedule(schedule, steps=steps)
    coefficients = solver.prepare(path, schedule)
    noises = np.random.default_rng(0).standard_normal((steps, *x.shape))
    wanted = openai_samples(betas, noises, np.asarray(x, np.float64), variance, fraction, scale)
    state, rows = x, jax.tree.map(jnp.float32, (*path.pairs(), coefficients))
    for index in range(steps):
        row = jax.tree.map(lambda leaf: leaf[index], rows)  # noqa: B023
        state, _ = solver.step(denoiser, *row, state, jnp.float32(noises[steps - 1 - index]), ())
        assert_allclose(state, wanted[index], rtol=1e-5, atol=1e-5)


def test_the_rules_of_a_classifier_agree_for_small_steps_and_differ_for_large_ones(x):
    """The ratio of the shifts is beta-tilde over beta / sqrt(1 - beta)."""
    schedule = make_schedule("linear")

    def shift(rule, steps):
        solver = SOLVERS["ddpm"](variance="small", classifier_rule=rule)
        path = make_sampling_schedule(schedule, steps=steps)
        rows = jax.tree.map(jnp.float32, (*path.pairs(), solver.prepare(path, schedule)))
        row = jax.tree.map(lambda leaf: leaf[steps // 2], rows)

        def after(scale):
            settings = guidance.Guidance(
                classifier_scale=scale, shift_mean=solver.conventions.shift_mean, clip=False
            )
            model = lambda x, level, _: of_all(x, level)  # noqa: E731
            logits = lambda x, level: log_likelihood(x, level, 1)  # noqa: E731
            denoiser = guidance.guide(settings, model, None, log_probability=logits)
            return solver.step(denoiser, *row, x, jnp.zeros_like(x), ())[0]

        return np.asarray(after(1.0) - after(0.0))

    assert_allclose(shift("mean", 1000), shift("score", 1000), rtol=0.02)
    assert np.abs(shift("mean", 5)).sum() < 0.6 * np.abs(shift("score", 5)).sum()
    with pytest.raises(ValueError, match="classifier_rule 'sum'; known rules: score, mean"):
        SOLVERS["ddpm"](classifier_rule="sum")


def conditional(x, level):
    return of_class(x, level, 1)


def guided_by(w, **options):
    return guidance.autoguidance(conditional, of_all, w, **options)


def test_an_interval_has_its_high_end_and_not_its_low_one(x):
    chosen = guidance.in_interval((1.0, 2.0), guided_by(3.0), conditional)
    for sigma, guides in ((0.5, False), (1.0, False), (1.5, True), (2.0, True), (2.5, False)):
        at = level(1.0, sigma)
        wanted = guided_by(3.0)(x, at) if guides else conditional(x, at)
        assert_allclose(chosen(x, at).x0, wanted.x0, atol=1e-6)
        assert np.abs(guided_by(3.0)(x, at).x0 - conditional(x, at).x0).max() > 1e-3


@pytest.mark.parametrize("solver", ["ddim", "dpmpp_2m"])
def test_half_the_levels_guided_save_a_quarter_of_the_passes(solver):
    """Counted while the program runs: 20 pairs of passes, or 10 pairs and 10 single ones."""
    passes = []

    def denoiser(x, level, condition):
        jax.debug.callback(lambda _: passes.append(1), condition[0])
        return of_class(x, level, condition[0])

    schedule, made = make_schedule("cosine"), SOLVERS[solver]()
    sampling_schedule = make_sampling_schedule(schedule, steps=20)
    coefficients = made.prepare(sampling_schedule, schedule)
    w = sampling_schedule.levels
    sigma = w.sigma[:-1] / w.alpha[:-1]
    # Between the levels, ten of which are guided.
    half = (float(sigma[14:16].mean()), float(sigma[4:6].mean()))
    condition, null = jnp.array([1]), jnp.array([0])
    counts = {}
    for interval in (None, half):
        settings = guidance.Guidance(scale=1.0, interval=interval)
        guided = guidance.guide(settings, denoiser, condition, null)
        image_keys = keys.per_example(jax.random.key(0), jnp.arange(1))
        passes.clear()
        images, _ = sample(made, guided, sampling_schedule, coefficients, image_keys, SHAPE)
        jax.block_until_ready(images)
        jax.effects_barrier()
        counts[interval] = len(passes)
    assert counts[None] == 40
    assert counts[half] == 30
    assert 1 - counts[half] / counts[None] >= 0.24


@pytest.mark.parametrize("at", LEVELS)
@pytest.mark.parametrize("phi", [0.0, 0.7, 1.0])
def test_rescaling_against_its_equations(x, at, phi):
    free, plain = guided_by(4.0)(x, at), conditional(x, at)
    a, s = float(at.alpha), float(at.sigma)
    r = np.hypot(a, s)

    def v(prediction):
        return (a * np.array(prediction.eps) - s * np.array(prediction.x0)) / r

    wanted = np.empty(x.shape)
    for i in range(len(x)):
        factor = v(plain)[i].std() / v(free)[i].std()
        wanted[i] = (phi * factor + 1 - phi) * v(free)[i]
    result = guided_by(4.0, rescale=phi)(x, at)
    assert_allclose(v(result), wanted, atol=2e-5)
    # And x0 and noise still go with x.
    assert_allclose(a * result.x0 + s * result.eps, x, atol=2e-5)
    if phi == 1:
        assert_allclose(v(result).std(axis=(1, 2, 3)), v(plain).std(axis=(1, 2, 3)), rtol=1e-4)


def test_rescaling_of_both_kinds_of_guidance(x):
    """Classifier-free guidance rescales as autoguidance does, where the two say the same."""
    at = LEVELS[0]

    def denoiser(x, level, condition):
        guided, free = of_class(x, level, 1), of_all(x, level)
        known = condition[:, None, None, None] == 1
        return jax.tree.map(lambda a, b: jnp.where(known, a, b), guided, free)

    def weak_one(x, level, condition):
        return of_all(x, level)

    for settings in (
        guidance.Guidance(scale=4.0, rescale=0.5, clip=False),
        guidance.Guidance(scale=4.0, clip=False),
    ):
        null = guidance.guide(settings, denoiser, jnp.ones(3), jnp.zeros(3))(x, at)
        weak = guidance.guide(settings, denoiser, jnp.ones(3), weak=weak_one)(x, at)
        assert_allclose(null.x0, weak.x0, atol=1e-5)


@pytest.mark.parametrize("quantile", [0.5, 0.9, 1.0])
def test_dynamic_thresholding_against_its_definition(x, quantile):
    at = LEVELS[1]
    free = guided_by(6.0)(x, at)
    result = process.dynamic_threshold(guided_by(6.0), quantile)(x, at)
    for i in range(len(x)):
        x0 = np.array(free.x0[i], np.float64)
        s = max(np.quantile(np.abs(x0), quantile), 1.0)
        assert_allclose(result.x0[i], np.clip(x0, -s, s) / s, atol=1e-5)
    assert np.abs(free.x0).max() > 1.2
    assert np.abs(result.x0).max() <= 1
    assert_allclose(process.q_sample(at, result.x0, result.eps), x, atol=1e-5)


def test_a_quantile_takes_the_place_of_clipping(x):
    at = LEVELS[1]
    settings = guidance.Guidance(clip=True, dynamic_threshold=0.9)
    guided = guidance.guide(settings, lambda x, level, condition: guided_by(6.0)(x, level), None)
    wanted = process.dynamic_threshold(guided_by(6.0), 0.9)(x, at)
    assert_array_equal(guided(x, at).x0, wanted.x0)


def test_a_model_of_another_schedule_gets_its_own_scale_and_c_noise():
    """At noise / signal = 4 / 3 its signal is 1, so that x is divided by 0.6."""
    own = Level(jnp.float32(1.0), jnp.float32(4 / 3), jnp.float32(7.0))
    calls = []

    def level_of(sigma):
        np.testing.assert_allclose(sigma, 4 / 3, rtol=1e-6)
        return own

    def denoiser(x, level, condition):
        calls.append((x, level, condition))
        return Prediction(x, x)

    x = jnp.full((2, 1, 1, 1), 0.3)
    level = Level(jnp.float32(0.6), jnp.float32(0.8), jnp.float32(500.0))
    guidance.at_own_levels(denoiser, level_of)(x, level, "labels")
    ((x_given, level_given, condition),) = calls
    np.testing.assert_allclose(x_given, 0.5, rtol=1e-6)
    assert level_given is own
    assert condition == "labels"
