"""Averages of any width, made after training."""

import jax
import numpy as np
import pytest
from forks import run_each
from numpy.testing import assert_allclose
from tiny import tiny_transformer_config, train

from diffusion_jax.config.experiment import Experiment
from diffusion_jax.runs.average import reaverage
from diffusion_jax.training import ema, post_hoc_ema
from diffusion_jax.training.checkpoints import Checkpoints
from diffusion_jax.workdir.parameters import load_params
from diffusion_jax.workdir.run_files import load_config

TIMES, WIDTHS = np.repeat([1, 2, 3, 4], 2), np.array([0.05, 0.1] * 4)


def test_weights_match_edm2():
    """The expected values are from EDM2's own program."""
    expected = [-0.000562, 0.001944, -0.013148, 0.038020, -0.077958, 0.200409, -0.264062, 1.115358]
    assert_allclose(post_hoc_ema.weights(TIMES, WIDTHS, 4, 0.15), expected, atol=1e-6)
    assert_allclose(post_hoc_ema.weights(1000 * TIMES, WIDTHS, 4000, 0.15), expected, atol=1e-6)


def test_a_saved_ema_has_weight_one():
    assert_allclose(post_hoc_ema.weights(TIMES, WIDTHS, 3, 0.1), np.eye(8)[5], atol=1e-9)
    with pytest.raises(ValueError, match="Two EMAs of the same width and time"):
        post_hoc_ema.weights(np.array([1, 1]), np.array([0.1, 0.1]), 1, 0.1)
    found = post_hoc_ema.weights(TIMES, WIDTHS, 3, 0.1)
    assert post_hoc_ema.misfit(TIMES, WIDTHS, found, 3, 0.1) < 1e-6
    with pytest.raises(ValueError, match=r"second_sigma_rel=0\.05 must differ"):
        ema.power(sigma_rel=0.05, second_sigma_rel=0.05)
    with pytest.raises(ValueError, match=r"must be above 0 and less than 0\.28"):
        post_hoc_ema.weights(TIMES, WIDTHS, 4, 0.3)


def test_inner_products_match_numerical_integrals():
    """The profiles s^2 and s^3 end at 1 and 2; integrals use the midpoint rule."""
    s = (np.arange(200_000) + 0.5) / 200_000
    product = np.mean(3 * s**2 * (4 * s**3 / 2**4))
    assert_allclose(post_hoc_ema.inner_product(1, 2, 2, 3), product, rtol=1e-8)
    assert_allclose(post_hoc_ema.inner_product(2, 3, 1, 2), product, rtol=1e-8)


def test_misfit_matches_a_numerical_integral():
    """Half of 3 s^2 on [0, 1], for the profile 4 s^3 / 2^4 on [0, 2], by the midpoint rule."""
    s = (np.arange(200_000) + 0.5) / 100_000
    wanted, made = 4 * s**3 / 16, np.where(s < 1, 1.5 * s**2, 0)
    expected = np.sqrt(np.sum((made - wanted) ** 2) / np.sum(wanted**2))
    widths = [np.sqrt((g + 1) / ((g + 2) ** 2 * (g + 3))) for g in (2, 3)]
    found = post_hoc_ema.misfit(np.array([1]), np.array(widths[:1]), np.array([0.5]), 2, widths[1])
    assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("wanted", [0.04, 0.07, 0.12, 0.2])
def test_the_combination_matches_an_ema_made_during_training(wanted):
    """A number moves as a parameter might, over 2,000 updates and 16 checkpoints."""
    moving = np.cos(np.arange(1, 2001) / 150) + np.sqrt(np.arange(1, 2001))
    saved, made = [], {}
    for width in (0.05, 0.1, wanted):
        exponent, mean = ema.gamma_of(width) + 1, 0.0
        for step, value in enumerate(moving, start=1):
            mean += (1 - (1 - 1 / step) ** exponent) * (value - mean)
            if step % 125 == 0 and width != wanted:
                saved.append((step, width, mean))
        made[width] = mean
    times, widths, values = map(np.array, zip(*saved))
    found = post_hoc_ema.weights(times, widths, 2000, wanted) @ values
    # EMAs of other widths differ by more.
    assert abs(found - made[wanted]) < 0.02 * max(abs(made[wanted] - made[0.05]), 0.1)


@pytest.fixture(scope="module")
def runs(tmp_path_factory, ordinary_promotion):
    """A folder with a run of two averages, which was stopped and resumed, and one of one."""
    folder = tmp_path_factory.mktemp("runs")
    changes = {"ema__name": "power", "ema__power__second_sigma_rel": 0.1, "keep_every": 1}
    changes |= {"checkpoint_every": 1, "optimizer__learning_rate": 0.01}
    for steps in (2, 4):
        train(tiny_transformer_config(steps=steps, **changes), folder / "two")
    train(tiny_transformer_config(steps=1), folder / "constant")
    return folder


def saved(workdir, step, *, second):
    config = load_config(workdir)
    _, like = load_params(workdir, Experiment.from_config(config), checkpoint=step)
    with Checkpoints(workdir / "checkpoints") as checkpoints:
        if second:
            return checkpoints.restore_second_ema(step, like)
        return checkpoints.restore_params(step, like, ema=True)


def test_a_second_ema_is_trained_and_resumed(runs):
    """Both averages by hand, from the parameters after each step."""
    config = load_config(runs / "two")
    raw = [
        load_params(runs / "two", Experiment.from_config(config), checkpoint=n, ema=False)[1]
        for n in (1, 2, 3, 4)
    ]
    for second, width in ((False, 0.05), (True, 0.1)):
        exponent = ema.gamma_of(width) + 1
        found = jax.tree.leaves(saved(runs / "two", 4, second=second))
        for leaf, *values in zip(found, *map(jax.tree.leaves, raw)):
            mean = 0.0
            for step, value in enumerate(values, start=1):
                mean += (1 - (1 - 1 / step) ** exponent) * (np.float64(value) - mean)
            assert_allclose(leaf, mean, rtol=1e-5, atol=1e-7)


def test_average_writes_a_run(runs):
    parts, misfit = reaverage(runs / "two", runs / "new", sigma_rel=0.15, checkpoint=3)
    assert [(part.step, part.sigma_rel) for part in parts] == [
        (step, width) for step in (1, 2, 3) for width in (0.05, 0.1)
    ]
    assert 0.1 < misfit < 0.2
    _, params = load_params(runs / "new", Experiment.from_config(load_config(runs / "new")))
    weights = post_hoc_ema.weights(np.repeat([1, 2, 3], 2), np.tile([0.05, 0.1], 3), 3, 0.15)
    trees = [
        saved(runs / "two", step, second=second) for step in (1, 2, 3) for second in (False, True)
    ]
    for leaf, *others in zip(*map(jax.tree.leaves, [params, *trees])):
        assert_allclose(leaf, np.tensordot(weights, np.stack(others), 1), rtol=1e-5, atol=1e-7)


def test_the_average_script_and_its_errors(runs):
    given = [f"--workdir={runs / 'two'}", "--sigma_rel=0.1"]
    cases = [
        ([*given, f"--out={runs / 'again'}"], None),
        ([*given, f"--out={runs / 'two'}"], "already exists"),
        ([given[0], "--sigma_rel=0.5", f"--out={runs / 'x'}"], "0.5"),
        (
            [given[0], "--sigma_rel=0.01", f"--out={runs / 'x'}"],
            "cannot be combined to sigma_rel=0.01: the nearest combination differs by",
        ),
        ([*given, f"--out={runs / 'x'}", "--checkpoint=5"], "No checkpoint of step 5"),
        (
            [f"--workdir={runs / 'constant'}", "--sigma_rel=0.1", f"--out={runs / 'x'}"],
            "have no power function profile since the first step",
        ),
        (given, "--out is missing"),
    ]
    for (arguments, message), done in zip(cases, run_each("average", [c for c, _ in cases])):
        if message is None:
            assert done.returncode == 0, done.stderr
            assert "+1.0000 of step 4, width 0.1" in done.stdout
            assert ": 0.0%, in L2" in done.stdout
            continue
        assert done.returncode == 1, (arguments, done.stdout)
        assert message in done.stderr, (arguments, done.stderr)
        assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert not (runs / "x").exists()
