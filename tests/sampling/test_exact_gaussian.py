"""For Gaussian data the best denoiser is known in closed form, and so is what a sampler must do."""

import inspect
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from diffusion_jax.diffusion import keys, process
from diffusion_jax.diffusion.discrete_schedules import respace, steps_by_count
from diffusion_jax.diffusion.schedules import make_schedule
from diffusion_jax.diffusion.types import Prediction
from diffusion_jax.sampling import SOLVERS, sample
from diffusion_jax.sampling.solvers.ddim import ddim, ddim_step

MEAN, STD = 0.3, 0.5
SHAPE = (8, 8, 1)
TRAINED = make_schedule("cosine", 1000)


def short(steps):
    return respace(TRAINED, steps_by_count(1000, steps))


def exact_denoiser(fraction=None):
    """E[x_0 | x_t] for x_0 ~ N(MEAN, STD^2), and the noise that goes with it."""

    def denoiser(x, level):
        signal, noise = process.per_image(level.alpha) ** 2, process.per_image(level.sigma) ** 2
        gain = jnp.sqrt(signal) * STD**2 / (signal * STD**2 + noise)
        x0 = MEAN + gain * (x - jnp.sqrt(signal) * MEAN)
        v = None if fraction is None else jnp.full(x.shape, fraction)
        return Prediction(x0, process.eps_from_x0(level, x, x0), v)

    return denoiser


def draw(schedule, eta, count=2048, fraction=None):
    image_keys = keys.per_example(keys.derive(0, "sample"), jnp.arange(count))
    denoiser, sampling_schedule = exact_denoiser(fraction), schedule.sampling_schedule()
    # Computed a thousand times, so that a fast program is worth its compilation.
    fast = {"xla_backend_optimization_level": 2}
    chain = jax.jit(
        lambda k: sample(
            ddim(eta=eta), denoiser, sampling_schedule, sampling_schedule.steps, k, SHAPE
        )[0],
        compiler_options=fast,
    )
    return chain(image_keys)


def moments_in_closed_form(schedule, eta):
    """Mean and std of what the sampler draws: every step is linear, so both follow exactly."""
    s, m, v = schedule, 0.0, 1.0
    for t in range(s.num_steps, 0, -1):
        signal, noise, before = s.alphas_bar[t], s.one_minus_alphas_bar[t], s.alphas_bar[t - 1]
        gain = np.sqrt(signal) * STD**2 / (signal * STD**2 + noise)
        fixed = MEAN * (1 - gain * np.sqrt(signal))  # x0 = gain x_t + fixed
        sigma2 = eta**2 * s.betas[t] * (1 - before) / noise
        direction = np.sqrt(max(1 - before - sigma2, 0) / noise)
        slope = np.sqrt(before) * gain + direction * (1 - np.sqrt(signal) * gain)
        m = slope * m + fixed * (np.sqrt(before) - direction * np.sqrt(signal))
        v = slope**2 * v + sigma2
    return m, np.sqrt(v)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_the_full_chain_reproduces_the_data(eta):
    """1,000 steps: mean and standard deviation of the data within 1 %."""
    mean, std = moments_in_closed_form(TRAINED, eta)
    assert_allclose([mean, std], [MEAN, STD], rtol=0.01)
    images = draw(TRAINED, eta)
    # 2048 * 64 values: the mean is known to 0.0014, the standard deviation to 0.2 %.
    assert_allclose(images.mean(), mean, atol=0.006)
    assert_allclose(images.std(), std, rtol=0.008)


@pytest.mark.parametrize(("steps", "error"), [(10, 0.16), (50, 0.032)])
def test_ddim_in_few_steps_stays_close(steps, error):
    schedule = short(steps)
    mean, std = moments_in_closed_form(schedule, 0.0)
    assert_allclose([mean, std], [MEAN, STD], rtol=error)
    images = draw(schedule, 0.0)
    assert_allclose(images.mean(), mean, atol=0.006)
    assert_allclose(images.std(), std, rtol=0.008)


def test_ddim_maps_noise_as_the_probability_flow_does():
    """For Gaussian data the flow is x_0 = MEAN + STD x_T."""
    image_keys = keys.per_example(keys.derive(0, "sample"), jnp.arange(4))
    x_T = keys.normal(keys.at_step(image_keys, 0), SHAPE)
    assert_allclose(draw(TRAINED, 0.0, count=4), MEAN + STD * x_T, atol=0.02)


def test_eta_one_is_the_posterior_step():
    """DDPM's ancestral step: the posterior's mean for the predicted x0, and beta-tilde."""
    schedule = short(20)
    x_t = jax.random.normal(jax.random.key(0), (4, *SHAPE))
    fresh = jax.random.normal(jax.random.key(1), x_t.shape)
    t = jnp.array([1, 2, 10, 20])
    denoiser, now, steps = exact_denoiser(), schedule.level(t), schedule.steps_from(t)
    after = ddim_step(denoiser, now, schedule.level(t - 1), steps, x_t, fresh, eta=1.0)
    mean = process.posterior_mean(steps, denoiser(x_t, now).x0, x_t)
    std = jnp.sqrt(process.per_image(steps.posterior_variance))
    assert_allclose(after, mean + std * fresh, atol=2e-5)


@pytest.mark.parametrize("fraction", [0.0, 1.0, 0.4])
def test_a_learned_variance_takes_the_place_of_beta_tilde(fraction):
    schedule = short(20)
    x_t = jnp.zeros((3, *SHAPE))
    t = jnp.array([1, 2, 20])
    levels = schedule.level(t), schedule.level(t - 1)
    step = partial(ddim_step, exact_denoiser(fraction), *levels, schedule.steps_from(t), x_t)
    noisy = step(jnp.ones_like(x_t), eta=1.0)
    quiet = step(jnp.zeros_like(x_t), eta=1.0)
    log_beta, log_beta_tilde = np.log(schedule.betas[t]), schedule.log_posterior_variance[t]
    std = np.exp(0.5 * (fraction * log_beta + (1 - fraction) * log_beta_tilde))
    std[0] = 0  # nothing is added to the finished image
    assert_allclose((noisy - quiet)[:, 0, 0, 0], std, rtol=1e-5, atol=1e-7)


def test_frames_are_states_of_the_chain_and_end_with_the_image():
    schedule = short(10)
    sampling_schedule = schedule.sampling_schedule()
    run = partial(
        sample, ddim(eta=0.3), exact_denoiser(), sampling_schedule, sampling_schedule.steps
    )
    image_keys = keys.per_example(keys.derive(0, "sample"), jnp.arange(2))
    x0, every = run(image_keys, SHAPE, frames=10)
    same, some = run(image_keys, SHAPE, frames=4)
    assert_allclose(x0, same)
    assert_allclose(every.x[-1], x0)
    assert some.x.shape == some.x0.shape == (4, 2, *SHAPE)
    for states, all_states in ((some.x, every.x), (some.x0, every.x0)):
        assert_allclose(states, all_states[jnp.array([2, 4, 7, 9])])
    before = every.x[8]  # which the last step started from
    level = jax.tree.map(lambda row: row[9], sampling_schedule.levels)
    # Compiled as in the chain: x0 is a difference, which has few digits where it is nearly 0.
    predicted = jax.jit(exact_denoiser())(before, level)
    assert_allclose(every.x0[-1], predicted.x0, rtol=1e-5)
    with pytest.raises(ValueError, match=r"0\.\.10"):
        run(image_keys, SHAPE, frames=11)


def test_frames_are_reported_before_later_steps():
    events, exact = [], exact_denoiser()

    def denoiser(x, level):
        jax.debug.callback(lambda: events.append("step"), ordered=True)
        return exact(x, level)

    def watch(number, x0):
        jax.debug.callback(lambda *found: events.append(found), number, x0, ordered=True)

    image_keys = keys.per_example(keys.derive(0, "sample"), jnp.arange(2))
    options = {"frames": 3, "watch": watch}
    sampling_schedule = short(7).sampling_schedule()
    draw = jax.jit(
        lambda k: sample(
            ddim(), denoiser, sampling_schedule, sampling_schedule.steps, k, SHAPE, **options
        )
    )
    _, film = draw(image_keys)
    jax.effects_barrier()
    kinds = [event if event == "step" else int(event[0]) for event in events]
    assert kinds == [*["step"] * 3, 0, *["step"] * 2, 1, *["step"] * 2, 2]
    for number, x0 in (event for event in events if event != "step"):
        np.testing.assert_array_equal(x0, film.x0[int(number)])


def test_an_image_does_not_depend_on_its_neighbors():
    schedule = short(10)
    sampling_schedule = schedule.sampling_schedule()
    run = partial(
        sample, ddim(eta=1.0), exact_denoiser(), sampling_schedule, sampling_schedule.steps
    )
    root = keys.derive(0, "sample")
    together, _ = run(keys.per_example(root, jnp.arange(6)), SHAPE)
    alone, _ = run(keys.per_example(root, jnp.array([4])), SHAPE)
    assert_allclose(together[4], alone[0], atol=1e-6)


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_change_of_numbers_compiles_nothing_anew(solver):
    """Neither eta or churn, nor the seed, nor the values of the levels."""

    @jax.jit
    def run(image_keys, rows, options):
        made = SOLVERS[solver](**options)
        return sample(made, exact_denoiser(), *rows, image_keys, SHAPE)[0]

    known = inspect.signature(SOLVERS[solver]).parameters
    for seed, eta in enumerate((0.0, 0.2, 1.0)):
        image_keys = keys.per_example(keys.derive(seed, "sample"), jnp.arange(2))
        numbers = {"eta": eta, "s_churn": 3 * eta, "s_tmax": 100.0 * eta}
        options = {name: value for name, value in numbers.items() if name in known}
        sampling_schedule = respace(TRAINED, np.array([100 + seed, 500, 1000])).sampling_schedule()
        coefficients = SOLVERS[solver](**options).prepare(sampling_schedule, TRAINED)
        run(image_keys, (sampling_schedule, coefficients), options)
    assert run._cache_size() == 1
