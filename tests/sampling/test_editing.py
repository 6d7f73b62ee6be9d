"""Edits with exact denoisers, whose results are known, and with a whole program."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from diffusion_jax.diffusion import keys, process
from diffusion_jax.diffusion.schedules import make_schedule
from diffusion_jax.diffusion.types import Prediction
from diffusion_jax.sampling import SOLVERS, make_sampling_schedule
from diffusion_jax.sampling.editing import noised, part_of, sample_with_inputs, slerp
from diffusion_jax.sampling.inpainting import resampled
from diffusion_jax.sampling.loop import starting_noise

SHAPE = (4, 4, 1)
MEAN, STD = 0.2, 0.5
KEY = keys.per_example(jax.random.key(0), jnp.arange(1))
SCHEDULES = ["cosine", "edm", "flow"]


def exact(x, level):
    """E[x0 | x] for independent pixels of N(MEAN, STD^2)."""
    signal, noise = process.per_image(level.alpha), process.per_image(level.sigma)
    x0 = MEAN + signal * STD**2 / (signal**2 * STD**2 + noise**2) * (x - signal * MEAN)
    return Prediction(x0, (x - signal * x0) / noise)


def one_value(x, level):
    """E[x0 | x] for images of one value, N(0, 1) throughout: pixels say what the others are."""
    signal, noise = process.per_image(level.alpha), process.per_image(level.sigma)
    pixels = SHAPE[0] * SHAPE[1]
    mean = jnp.mean(x, axis=(1, 2, 3), keepdims=True)
    x0 = jnp.broadcast_to(signal * mean / (signal**2 + noise**2 / pixels), x.shape)
    return Prediction(x0, (x - signal * x0) / noise)


def run(
    solver, sampling_schedule, count, denoiser=exact, seed=0, frames=0, schedule="cosine", **inputs
):
    solver = SOLVERS[solver](**({"eta": 1.0} if solver == "ddim" else {}))
    coefficients = solver.prepare(sampling_schedule, make_schedule(schedule))
    image_keys = keys.per_example(keys.derive(seed, "sample"), jnp.arange(count))

    def program(rows, inputs):
        return sample_with_inputs(
            solver, denoiser, *rows, image_keys, SHAPE, frames=frames, **inputs
        )

    return jax.jit(program)((sampling_schedule, coefficients), inputs)


def images_of(count):
    return MEAN + STD * jax.random.normal(jax.random.key(3), (count, *SHAPE))


def half_mask(count):
    """1, to be sampled, in the right half."""
    return jnp.zeros((count, *SHAPE)).at[:, :, 2:].set(1)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("solver", ["ddim", "heun", "dpmpp_2m"])
@pytest.mark.parametrize("times", [1, 3])
def test_known_pixels_come_back_exactly(name, solver, times):
    sampling_schedule = make_sampling_schedule(make_schedule(name), steps=12)
    sampling_schedule = resampled(sampling_schedule, jump=4, times=times)
    known, mask = images_of(2), half_mask(2)
    x, film = run(
        solver,
        sampling_schedule,
        2,
        known=known,
        mask=mask,
        frames=sampling_schedule.num_steps,
        schedule=name,
    )
    assert_array_equal(x[:, :, :2], known[:, :, :2])
    assert np.isfinite(x).all()
    assert np.isfinite(film.x0).all()
    assert np.abs(x[:, :, 2:] - known[:, :, 2:]).max() > 0.1
    assert_array_equal(film.x[-1], x)


def test_unknown_pixels_follow_the_known_one():
    """In images of one value, fifteen pixels must take the value of the known one.

    With replacement alone they agree with each other first, while the known one is still noisy.
    Resampling corrects this.
    """
    count = 256
    values = jax.random.normal(jax.random.key(5), (count, 1, 1, 1))
    known = jnp.broadcast_to(values, (count, *SHAPE))
    mask = jnp.ones((count, *SHAPE)).at[:, 0, 0].set(0)
    gaps = {}
    for times in (1, 10):
        sampling_schedule = resampled(
            make_sampling_schedule(make_schedule("cosine"), steps=40), jump=10, times=times
        )
        x, _ = run("ddim", sampling_schedule, count, one_value, known=known, mask=mask)
        gaps[times] = float(jnp.sqrt(jnp.mean((x[:, 1:] - values) ** 2)))
    assert gaps[10] < gaps[1] / 2


def test_resampled_schedules_visit_the_levels_of_repaint():
    """RePaint's get_schedule_jump, with one climb in place of its single steps up."""
    total, jump, times = 9, 3, 3

    def published():
        """t of every state, from t_T - 1 down to -1."""
        jumps = dict.fromkeys(range(0, total - jump, jump), times - 1)
        t, ts = total, []
        while t >= 1:
            t -= 1
            ts.append(t)
            if jumps.get(t, 0) > 0:
                jumps[t] -= 1
                t += jump
                ts.append(t)
        return [*ts, -1]

    base = make_sampling_schedule(make_schedule("cosine"), steps=total)
    sampling_schedule = resampled(base, jump=jump, times=times)
    # The state t = total - 1 is the first level of the sampling schedule, t = -1 the clean image.
    places = [total - 1 - t for t in published()]
    assert_array_equal(sampling_schedule.levels.c_noise, base.levels.c_noise[places])
    assert_array_equal(sampling_schedule.levels.alpha, base.levels.alpha[places])
    assert_array_equal(sampling_schedule.noised, np.diff(places) < 0)
    assert sampling_schedule.num_steps == total + (times - 1) * (jump + 1) * ((total - 1) // jump)


@pytest.mark.parametrize("name", SCHEDULES)
def test_noising_on_the_way_is_the_forward_process(name):
    """N(0, 1) at the first level stays what the levels say after every climb."""
    sampling_schedule = resampled(
        make_sampling_schedule(make_schedule(name), steps=6), jump=2, times=2
    )
    w, beta = sampling_schedule.levels, np.append(0.0, sampling_schedule.steps.beta)
    for i in np.flatnonzero(sampling_schedule.noised) + 1:
        # Variance of x0 ~ N(0, 1): signal^2 + noise^2, at both ends.
        before = w.alpha[i - 1] ** 2 + w.sigma[i - 1] ** 2
        ratio = w.alpha[i] / w.alpha[i - 1]
        assert_allclose(ratio**2 * before + beta[i], w.alpha[i] ** 2 + w.sigma[i] ** 2)
        assert beta[i] > 0
    # And the loop does that, with noise of its own.
    _, film = run("ddim", sampling_schedule, 512, frames=sampling_schedule.num_steps)
    for i in np.flatnonzero(sampling_schedule.noised):
        added = film.x[i] - w.alpha[i + 1] / w.alpha[i] * film.x[i - 1]
        assert_allclose(added.std(), np.sqrt(beta[i + 1]), rtol=0.03)
        assert abs(np.corrcoef(added.ravel(), film.x[i - 1].ravel())[0, 1]) < 0.04
        assert_array_equal(film.x0[i], film.x0[i - 1])  # nothing is predicted there


@pytest.mark.parametrize("name", SCHEDULES)
def test_image_to_image_by_strength(name):
    sampling_schedule = make_sampling_schedule(make_schedule(name), steps=20)
    count = 64
    images = images_of(count)
    moved = {}
    for strength in (0.1, 0.5, 1.0):
        rest = part_of(sampling_schedule, strength)
        assert rest.num_steps == round(20 * strength)
        x, _ = run("heun", rest, count, image=images, schedule=name)
        moved[strength] = float(jnp.mean((x - images) ** 2))
        assert_allclose([x.mean(), x.std()], [MEAN, STD], rtol=0.2)
    assert moved[0.1] < 0.3 * moved[0.5] < 0.3 * moved[1.0]
    assert_allclose(moved[1.0], 2 * STD**2, rtol=0.15)  # next to nothing of the image is left
    # The start is q(x | x0) with the noise that sampling would start from.
    image_keys = keys.per_example(keys.derive(0, "sample"), jnp.arange(count))
    rest = part_of(sampling_schedule, 0.5)
    level = [
        float(row[10]) for row in (sampling_schedule.levels.alpha, sampling_schedule.levels.sigma)
    ]
    wanted = level[0] * images + level[1] * starting_noise(image_keys, SHAPE)
    assert_allclose(noised(rest, image_keys, images), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("solver", ["heun", "dpmpp_2m"])
def test_inversion_and_sampling_return_the_image(name, solver):
    sampling_schedule = make_sampling_schedule(make_schedule(name), steps=100, spacing="karras")
    images = images_of(4)
    noise, _ = run(solver, sampling_schedule.reversed(), 4, x=images, schedule=name)
    back, _ = run(solver, sampling_schedule, 4, x=noise, schedule=name)
    assert_allclose(back, images, atol=5e-3)
    assert np.abs(noise / sampling_schedule.init_noise_std).max() > 0.5


def test_inversion_skips_equal_levels():
    """The original's cosine has one alpha-bar in its first 13 steps."""
    schedule = make_schedule("cosine", original_quirks=True)
    sampling_schedule = schedule.with_clean_end().sampling_schedule(250)
    noise, _ = run("heun", sampling_schedule.reversed(), 2, x=images_of(2))
    assert np.isfinite(noise).all()
    back, _ = run("heun", sampling_schedule, 2, x=noise)
    assert_allclose(back, images_of(2), atol=0.02)


def test_slerp_walks_along_the_great_circle():
    a = jnp.zeros((1, *SHAPE)).at[0, 0, 0, 0].set(2.0)
    b = jnp.zeros((1, *SHAPE)).at[0, 1, 0, 0].set(2.0)
    for fraction in (0.0, 0.25, 0.5, 1.0):
        between = slerp(a, b, fraction)
        wanted = 2 * np.cos(np.pi / 2 * fraction), 2 * np.sin(np.pi / 2 * fraction)
        assert_allclose([between[0, 0, 0, 0], between[0, 1, 0, 0]], wanted, atol=1e-6)
        assert_allclose(jnp.sum(between**2), 4, rtol=1e-6)
    # A row of its own fraction for each image, and images in one direction.
    rows = slerp(jnp.concatenate([a, a]), jnp.concatenate([b, 3 * a]), jnp.array([0.5, 0.5]))
    assert_allclose(rows[0], slerp(a, b, 0.5)[0], atol=1e-6)
    assert_allclose(rows[1], 2 * a[0], atol=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda sampling_schedule: part_of(sampling_schedule, 0.0),
            "strength=0.0 must be above 0, up to 1",
        ),
        (
            lambda sampling_schedule: part_of(sampling_schedule, 1.5),
            "strength=1.5 must be above 0, up to 1",
        ),
        (
            lambda sampling_schedule: part_of(sampling_schedule, 0.01),
            r"strength=0\.01 of 10 .* a strength of at least 0\.1",
        ),
        (
            lambda sampling_schedule: resampled(sampling_schedule, jump=10),
            r"jump=10 is not in 1\.\.9",
        ),
        (
            lambda sampling_schedule: resampled(sampling_schedule, jump=2, times=0),
            "resample=0 must be a whole number, at least 1",
        ),
        (
            lambda sampling_schedule: sample_with_inputs(
                SOLVERS["ddim"](),
                exact,
                sampling_schedule,
                None,
                KEY,
                SHAPE,
                x=images_of(1),
                image=images_of(1),
            ),
            "x and image both set the start",
        ),
        (
            lambda sampling_schedule: sample_with_inputs(
                SOLVERS["ddim"](), exact, sampling_schedule, None, KEY, SHAPE, mask=half_mask(1)
            ),
            "known and mask belong together",
        ),
    ],
)
def test_bad_edits_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make(make_sampling_schedule(make_schedule("cosine"), steps=10))
