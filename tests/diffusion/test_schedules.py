import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from diffusion_jax.diffusion import discrete_schedules
from diffusion_jax.diffusion.discrete_schedules import respace, steps_by_count, steps_by_stride
from diffusion_jax.diffusion.schedules import make_schedule
from diffusion_jax.sampling import make_sampling_schedule


def centered_25():
    cosine = make_schedule("cosine", 1000)
    return respace(cosine, steps_by_count(1000, 25, "centered"))


# Published tables: t, beta, alpha-bar, beta-tilde, log beta-tilde (clipped), and the weights of x0
# and x_t in the mean of the posterior.
GOLDEN = [
    (lambda: make_schedule("linear", 1000), [
        (2, 1.1991992e-4, 0.99978009, 5.4531877e-5, -9.8167251, 0.5452915, 0.4547085),
        (501, 0.01005996, 0.077796658, 0.010051336, -4.6000497, 0.0030580571, 0.99410435),
        (1000, 0.02, 4.0358298e-5, 0.019999984, -3.9120238, 1.2835149e-4, 0.98994868),
    ]),
    (lambda: make_schedule("cosine", 1000), [
        (2, 4.6141753e-5, 0.99991258, 2.1789496e-5, -10.734083, 0.52778141, 0.47221859),
        (501, 0.0031556914, 0.49228517, 0.0031460051, -5.7616218, 0.0043678669, 0.99535628),
        (1000, 0.999, 2.4287669e-9, 0.99899758, -0.0010029, 0.0015568917, 0.0316227),
    ]),
    (centered_25, [
        (1, 0.0018857713, 0.99811423, 0, -6.4529936, 1, 0),
        (13, 0.11223127, 0.49228517, 0.098474238, -2.3179603, 0.16460859, 0.82672041),
        (25, 0.89603184, 8.7652938e-4, 0.88925708, -0.1173689, 0.082345022, 0.32000301),
    ]),
    (lambda: make_schedule("linear", 600), [
        (301, 0.010066611, 0.21540311, 0.010038507, -4.6013269, 0.0059849387, 0.99217626),
        (600, 0.02, 0.0023096908, 0.019999055, -3.9120703, 9.7319109e-4, 0.98990272),
    ]),
]  # fmt: skip


@pytest.mark.parametrize(("make", "rows"), GOLDEN)
def test_published_tables(make, rows):
    s = make()
    for t, beta, alpha_bar, beta_tilde, log_clipped, x0_weight, x_t_weight in rows:
        before, whole = s.one_minus_alphas_bar[t - 1], s.one_minus_alphas_bar[t]
        assert_allclose(s.betas[t], beta, rtol=1e-7)
        assert_allclose(s.alphas_bar[t], alpha_bar, rtol=1e-7)
        assert_allclose(s.betas[t] * before / whole, beta_tilde, rtol=1e-7)
        assert_allclose(s.log_posterior_variance[t], log_clipped, rtol=1e-6, atol=1e-7)
        assert_allclose(np.sqrt(s.alphas_bar[t - 1]) * s.betas[t] / whole, x0_weight, rtol=1e-7)
        assert_allclose(np.sqrt(s.alphas[t]) * before / whole, x_t_weight, rtol=1e-6)


@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_timesteps_can_be_counted_from_0(name):
    paper, programs = make_schedule(name, 10), make_schedule(name, 10, first_timestep=0)
    t = jnp.array([1, 4, 10])
    assert_array_equal(paper.level(t).c_noise, [1, 4, 10])
    assert_array_equal(programs.level(t).c_noise, [0, 3, 9])
    assert_array_equal(programs.level(t).sigma, paper.level(t).sigma)
    # The steps of improved-diffusion's "3".
    sampling_schedule = make_sampling_schedule(programs, steps=3, spacing="sections", sections=(3,))
    assert_array_equal(sampling_schedule.levels.c_noise[:-1], [9, 4, 0])


def test_chains_of_other_lengths_can_be_rescaled():
    """As openai/improved-diffusion does at T = 4000."""
    rescaled = make_schedule("cosine", 4000, first_timestep=0, rescale_timesteps=True)
    assert_allclose(rescaled.level(jnp.array([1, 2, 4000])).c_noise, [0, 0.25, 999.75])
    linear = make_schedule("linear", 4000, rescale=True)
    assert_allclose(linear.betas[[1, 4000]], [2.5e-5, 0.005])
    assert_allclose(linear.alphas_bar[-1], make_schedule("linear", 1000).alphas_bar[-1], rtol=0.06)


@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_a_schedule_begins_with_the_clean_image(name):
    s = make_schedule(name, 1000)
    assert s.alphas_bar[0] == 1
    assert np.all(np.diff(s.alphas_bar) < 0)
    assert s.alphas_bar.dtype == np.float64
    assert s.num_steps == 1000


def test_keeping_every_step_changes_nothing():
    s = make_schedule("cosine", 1000)
    same = respace(s, np.arange(1, 1001))
    assert_allclose(same.betas, s.betas, rtol=1e-9)
    assert_allclose(same.log_posterior_variance, s.log_posterior_variance, rtol=1e-9)
    np.testing.assert_array_equal(same.timesteps, s.timesteps)


def test_respacing_keeps_alpha_bar_and_tells_the_old_timesteps():
    s = make_schedule("cosine", 1000)
    steps = steps_by_stride(1000, 7)
    short = respace(s, steps)
    np.testing.assert_array_equal(short.timesteps[1:], steps)
    assert_allclose(short.alphas_bar[1:], s.alphas_bar[steps])
    assert_allclose(np.cumprod(1 - short.betas[1:]), s.alphas_bar[steps], rtol=1e-9)


def test_respacing_twice_is_respacing_once():
    s = make_schedule("linear", 1000)
    once = respace(s, np.array([10, 500, 1000]))
    twice = respace(respace(s, np.array([10, 20, 500, 900, 1000])), np.array([1, 3, 5]))
    np.testing.assert_array_equal(once.timesteps, twice.timesteps)
    assert_allclose(once.betas, twice.betas)


def test_grids_of_steps():
    assert steps_by_stride(1000, 10)[[0, 1, -1]].tolist() == [1, 11, 991]
    assert len(steps_by_stride(1000, 7)) == 143
    assert steps_by_count(1000, 25)[[0, 1, 2, -1]].tolist() == [1, 43, 84, 1000]
    assert steps_by_count(1000, 25, "centered")[[0, 1, -1]].tolist() == [21, 61, 981]
    assert steps_by_count(1000, 1).tolist() == [1000]
    for count in (1, 2, 37, 999, 1000):
        for spacing in ("ends", "centered"):
            steps = steps_by_count(1000, count, spacing)
            assert len(steps) == count
            assert np.all(np.diff(steps) > 0)
            assert 1 <= steps[0] <= steps[-1] <= 1000


@pytest.mark.parametrize("stride", [1, 10])
def test_original_cosine_has_the_bits_of_the_pytorch_original(stride, golden):
    table = np.load(golden / "original_unet" / "cosine.npz")
    s = respace(make_schedule("cosine", 1000, original_quirks=True), steps_by_stride(1000, stride))
    ratio = s.one_minus_alphas_bar[:-1] / s.one_minus_alphas_bar[1:]
    ours = {
        "a_bar_t": s.alphas_bar[1:],
        "a_bar_t1": s.alphas_bar[:-1],
        "beta_t": s.betas[1:],
        "beta_tilde_t": ratio * s.betas[1:],
    }
    for name, values in ours.items():
        assert values.dtype == np.float32
        np.testing.assert_array_equal(values, table[f"cosine_step{stride}_{name}"])


def test_sampling_ends_at_the_clean_image_by_default():
    trained = make_schedule("cosine", 1000, original_quirks=True)
    default = respace(trained.with_clean_end(), steps_by_stride(1000, 10))
    as_trained = respace(trained, steps_by_stride(1000, 10))
    assert default.alphas_bar[0] == 1
    assert as_trained.alphas_bar[0] == np.float32(0.999)
    np.testing.assert_array_equal(default.alphas_bar[1:], as_trained.alphas_bar[1:])
    np.testing.assert_array_equal(default.timesteps, as_trained.timesteps)
    # The same chain in float64: beta is the more exact for it.
    assert_allclose(default.betas[2:], as_trained.betas[2:], rtol=1e-4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: make_schedule("cubic", 10), "linear, cosine"),
        (lambda: make_schedule("linear", 10, first_timestep=2), "first_timestep=2 must be 0 or 1"),
        (lambda: make_schedule("linear", 20, rescale=True), "needs more than 20 steps"),
        (lambda: steps_by_count(1000, 1001), "1..1000"),
        (lambda: steps_by_count(1000, 10, "odd"), "ends, centered"),
        (lambda: steps_by_stride(1000, 0), "1..1000"),
        (lambda: respace(make_schedule("linear", 10), np.array([3, 2])), "increase"),
        (lambda: respace(make_schedule("linear", 10), np.array([0, 2])), "1..10"),
        (lambda: discrete_schedules.from_betas(np.array([0.1, 1.0])), "between 0 and 1"),
    ],
)
def test_mistakes_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
