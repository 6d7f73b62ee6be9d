"""Training steps recomputed by hand in float64, from the seed to the averages."""

import zlib
from dataclasses import replace
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import norm

from diffusion_jax import parallel
from diffusion_jax.diffusion import (
    losses,
    parameterizations,
    schedules,
    timestep_samplers,
    weights,
)
from diffusion_jax.diffusion.types import NetworkOutput
from diffusion_jax.models import Network
from diffusion_jax.training import ema, objectives
from diffusion_jax.training.metrics import means
from diffusion_jax.training.optimizers import adamw
from diffusion_jax.training.sharding import Replicated
from diffusion_jax.training.state import TrainState
from diffusion_jax.training.step import make_train_step

pytestmark = pytest.mark.usefixtures("ordinary_promotion")

SEED, T, ROWS, CLASSES, SIDE, CHANNELS = 7, 4, 8, 3, 2, 3
VLB_WEIGHT, DROPOUT = 0.3, 0.4
RATE, WARMUP, B1, B2, EPS, WEIGHT_DECAY, CLIP = 0.05, 2, 0.8, 0.95, 0.01, 0.1, 0.5
RNG = np.random.default_rng(0)
# Both ends, whose bins of the decoder reach to infinity, are among the pixels.
PIXELS = RNG.choice([0, 3, 90, 128, 200, 255], (3, ROWS, SIDE, SIDE, CHANNELS)).astype(np.uint8)
LABELS = RNG.integers(0, CLASSES, (3, ROWS)).astype(np.int32)
PARAMS = {
    "of_x": np.array([0.6, 0.3, -0.2]),
    "of_c_noise": np.array([0.1]),
    "of_label": RNG.normal(0, 0.5, (CLASSES + 1, CHANNELS)),
    "variance": np.array([0.4, -0.3, 0.2]),
}
# The last two losses of each level, how often it was seen, and how often it is then drawn.
LAST_LOSSES = np.array([[0.3, 0.5], [1.5, 1.0], [0.2, 0.1], [0.8, 0.9]])
SEEN = np.array([2, 5, 3, 2])
_ROOTS = np.sqrt(np.mean(LAST_LOSSES**2, axis=1))
OFTEN = _ROOTS / _ROOTS.sum() * 0.9 + 0.1 / T


class Linear(Network):
    """A network whose output is linear in pixels, c_noise and label of each example."""

    channels: int = CHANNELS
    num_classes: int = CLASSES

    learns_variance = True

    def forward(self, x, c_noise, condition, train, examples):
        p = {name: self.param(name, nn.initializers.zeros, PARAMS[name].shape) for name in PARAMS}
        offset = p["of_c_noise"][0] * c_noise[:, None] + p["of_label"][condition]
        of_x, variance = (p[name][None, None, None] for name in ("of_x", "variance"))
        return NetworkOutput(of_x * x + offset[:, None, None], variance * x)


def cosine_tables():
    """beta, alpha-bar and the posterior's variance by step; DDPM's and Improved DDPM's formulas."""
    f = np.cos((np.arange(T + 1) / T + 0.008) / 1.008 * np.pi / 2) ** 2
    beta = np.concatenate([[np.nan], np.minimum(1 - f[1:] / f[:-1], 0.999)])
    alpha_bar = np.concatenate([[1.0], np.cumprod(1 - beta[1:])])
    posterior = np.full(T + 1, np.nan)
    posterior[2:] = (1 - alpha_bar[1:-1]) / (1 - alpha_bar[2:]) * beta[2:]
    posterior[1] = posterior[2]  # of the decoder, where it would be 0
    return beta, alpha_bar, posterior


@cache
def draws(step, example, by_loss=False):
    """t, noise and whether the label is dropped, of one example of one step."""
    root = jax.random.fold_in(jax.random.key(SEED), zlib.crc32(b"train"))
    for_examples, _ = jax.random.split(jax.random.fold_in(root, step))
    key = jax.random.fold_in(for_examples, example)
    for_t, for_noise, for_label = jax.random.split(key, 3)
    t = int(jax.random.randint(for_t, (), 1, T + 1))
    if by_loss:
        t = 1 + int(jax.random.categorical(for_t, jnp.log(jnp.asarray(OFTEN, jnp.float32))))
    noise = np.asarray(jax.random.normal(for_noise, (SIDE, SIDE, CHANNELS)), np.float64)
    return t, noise, float(jax.random.uniform(for_label)) < DROPOUT


def example_losses(params, frozen, step, example, by_loss=False):
    """(L_simple, L_vlb) of one example; the mean of L_vlb is of the frozen parameters."""
    beta, alpha_bar, posterior = cosine_tables()
    t, noise, dropped = draws(step, example, by_loss)
    label = CLASSES if dropped else LABELS[step, example]
    x0 = PIXELS[step, example] / 127.5 - 1
    x = np.sqrt(alpha_bar[t]) * x0 + np.sqrt(1 - alpha_bar[t]) * noise

    def estimate(p):
        return p["of_x"] * x + p["of_c_noise"] * t + p["of_label"][label]

    simple = np.mean((noise - estimate(params)) ** 2)
    x0_hat = (x - np.sqrt(1 - alpha_bar[t]) * estimate(frozen)) / np.sqrt(alpha_bar[t])
    v = params["variance"] * x
    log_variance = v * np.log(beta[t]) + (1 - v) * np.log(posterior[t])
    if t == 1:
        std = np.exp(log_variance / 2)
        below = np.where(x0 < -0.999, 0, norm.cdf((x0 - 1 / 255 - x0_hat) / std))
        above = np.where(x0 > 0.999, 1, norm.cdf((x0 + 1 / 255 - x0_hat) / std))
        return simple, np.mean(-np.log(above - below))
    of_x0 = np.sqrt(alpha_bar[t - 1]) * beta[t] / (1 - alpha_bar[t])
    distance = of_x0 * (x0 - x0_hat)  # of the two means: what they take of x is the same
    kl = log_variance - np.log(posterior[t]) - 1
    kl = kl + (posterior[t] + distance**2) / np.exp(log_variance)
    return simple, np.mean(kl / 2)


def batch_losses(params, frozen, step, by_loss=False):
    """Means over the batch of (L_simple, L_vlb, loss)."""
    rows = np.array([example_losses(params, frozen, step, i, by_loss) for i in range(ROWS)])
    if by_loss:  # as if all levels were drawn equally often
        rows /= np.array([[T * OFTEN[draws(step, i, by_loss)[0] - 1]] for i in range(ROWS)])
    simple, vlb = np.mean(rows, axis=0)
    return simple, vlb, simple + VLB_WEIGHT * vlb


def gradient(params, step, by_loss=False):
    """Computes the gradient of the loss by central differences."""
    result = {name: np.zeros(value.shape) for name, value in params.items()}
    for name, value in params.items():
        for index in np.ndindex(value.shape):
            sides = []
            for change in (1e-5, -1e-5):
                moved = {**params, name: value.copy()}
                moved[name][index] += change
                sides.append(batch_losses(moved, params, step, by_loss)[2])
            result[name][index] = (sides[0] - sides[1]) / 2e-5
    return result


@pytest.fixture(scope="module")
def steps_by_hand():
    """(metrics, parameters, their two averages) after each of three steps."""
    return list(three_steps())


def three_steps():
    params, first, second = PARAMS, PARAMS, PARAMS
    mean = dict.fromkeys(PARAMS, 0.0)
    square = dict(mean)
    for step in range(3):
        simple, vlb, loss = batch_losses(params, params, step)
        g = gradient(params, step)
        size = np.sqrt(sum(np.sum(part**2) for part in g.values()))
        rate = RATE * min(step / WARMUP, 1)
        averaged = min(0.9, (1 + step) / (10 + step))
        # Half as much counts what is 40 images old, but at the start, of half those seen.
        halved = 0.5 ** (ROWS / min(40, 0.5 * ROWS * step)) if step else 0.0
        new = {}
        for name in PARAMS:
            clipped = g[name] * min(1, CLIP / size)
            mean[name] = B1 * mean[name] + (1 - B1) * clipped
            square[name] = B2 * square[name] + (1 - B2) * clipped**2
            direction = mean[name] / (1 - B1 ** (step + 1))
            direction = direction / (np.sqrt(square[name] / (1 - B2 ** (step + 1))) + EPS)
            new[name] = params[name] - rate * (direction + WEIGHT_DECAY * params[name])
        params = new
        first = {k: averaged * first[k] + (1 - averaged) * params[k] for k in PARAMS}
        second = {k: halved * second[k] + (1 - halved) * params[k] for k in PARAMS}
        metrics = {"simple": simple, "vlb": vlb, "loss": loss, "gradient_norm": size, "skipped": 0}
        yield metrics, params, first, second


@pytest.mark.parametrize(("devices", "micro_batches"), [(1, 1), (1, 4), (2, 2)])
def test_three_steps_match_a_computation_by_hand(devices, micro_batches, steps_by_hand):
    program, state = made(timestep_samplers.uniform, devices, micro_batches)
    for number, (metrics, *by_hand) in enumerate(steps_by_hand):
        state, computed = program(state, batch_of(number, devices))
        assert_metrics(computed, metrics)
        assert state.step == number + 1
        states = (state.params, state.ema_params, state.second_ema_params)
        for ours, theirs in zip(states, by_hand, strict=True):
            for name in PARAMS:
                assert_allclose(ours[name], theirs[name], rtol=2e-5, atol=2e-6, err_msg=name)


def test_loss_aware_timesteps_are_importance_weighted():
    """Improved DDPM, eq. 18; each loss takes the place of the oldest one of its level."""
    by_losses = partial(timestep_samplers.loss_second_moment, memory=2, uniform_part=0.1)
    program, state = made(by_losses, 2, 2)
    history = {"losses": LAST_LOSSES.astype(np.float32), "seen": SEEN.astype(np.int32)}
    state, computed = program(replace(state, history=history), batch_of(0, 2))
    simple, vlb, loss = batch_losses(PARAMS, PARAMS, 0, by_loss=True)
    norm_of = np.sqrt(sum(np.sum(part**2) for part in gradient(PARAMS, 0, by_loss=True).values()))
    metrics = {"simple": simple, "vlb": vlb, "loss": loss, "gradient_norm": norm_of, "skipped": 0}
    assert_metrics(computed, metrics)
    last, seen = LAST_LOSSES.copy(), SEEN.copy()
    for example in range(ROWS):
        index = draws(0, example, True)[0] - 1
        simple, vlb = example_losses(PARAMS, PARAMS, 0, example, by_loss=True)
        last[index, seen[index] % 2] = simple + VLB_WEIGHT * vlb
        seen[index] += 1
    assert_array_equal(state.history["seen"], seen)
    assert_allclose(state.history["losses"], last, rtol=2e-5)


def made(timesteps_of, devices, micro_batches):
    """Returns the step on a number of devices, and the initial state."""
    model, schedule = Linear(), schedules.make_schedule("cosine", T)
    sampler = timesteps_of(schedule)
    objective = objectives.denoising(
        model,
        schedule,
        parameterizations.eps(),
        sampler,
        loss=losses.hybrid(),
        weight=weights.uniform,
        vlb_weight=VLB_WEIGHT,
        label_dropout=DROPOUT,
    )
    optimizer = adamw(RATE, 1000, WARMUP, "constant", None, B1, B2, EPS, WEIGHT_DECAY, CLIP)
    step = make_train_step(
        objective,
        optimizer,
        sampler,
        seed=SEED,
        micro_batches=micro_batches,
        ema_weight=ema.constant(0.9),
        second_ema_weight=ema.half_life(ROWS, images=40.0, rampup=0.5),
        constrain=lambda params: params,
        sharding=Replicated(),
    )
    program = parallel.data_parallel(step, jax.local_devices()[:devices])
    params = jax.tree.map(lambda value: jnp.asarray(value, jnp.float32), PARAMS)
    state = TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        ema_params=jax.tree.map(jnp.copy, params),
        opt_state=optimizer.init(params),
        second_ema_params=jax.tree.map(jnp.copy, params),
    )
    return program, state


def batch_of(number, devices):
    batch = {"image": PIXELS[number], "label": LABELS[number]}
    return {name: rows.reshape(devices, -1, *rows.shape[1:]) for name, rows in batch.items()}


def assert_metrics(computed, by_hand):
    computed = means(computed)
    assert computed.keys() == by_hand.keys()
    for name, value in by_hand.items():
        assert_allclose(computed[name], value, rtol=2e-5, err_msg=name)


def test_the_golden_batch_covers_all_kinds_of_draws():
    """Otherwise the test above would not see them all."""
    drawn = [draws(step, example) for step in range(3) for example in range(ROWS)]
    assert {t for t, _, _ in drawn} == {1, 2, 3, 4}
    assert_array_equal(sorted({dropped for *_, dropped in drawn}), [False, True])
    kept = {int(LABELS[i // ROWS, i % ROWS]) for i, (*_, gone) in enumerate(drawn) if not gone}
    assert kept == set(range(CLASSES))
