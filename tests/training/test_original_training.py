"""Loss and training step of the PyTorch original, on imported weights and optimizer state."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from original_golden import FOLDER, arrays, checkpoint, labels_of, to_nhwc

from configs import original as original_config
from diffusion_jax.config.experiment import Experiment
from diffusion_jax.diffusion import losses, parameterizations, process, schedules
from diffusion_jax.importers import original
from diffusion_jax.importers.original import names
from diffusion_jax.importers.train_states import make_train_state
from diffusion_jax.training.ema import constant
from diffusion_jax.training.state import apply_gradients

pytestmark = pytest.mark.usefixtures("ordinary_promotion")
AVERAGE = constant(0.9)

SCHEDULE = schedules.make_schedule("cosine", 1000, original_quirks=True)


@pytest.fixture(scope="module")
def imported():
    return checkpoint("train_tiny")


@pytest.fixture(scope="module")
def step(imported):
    """Losses and gradients of the golden batch."""
    golden = arrays("train_tiny")
    x0 = to_nhwc((golden["img_u8"].astype(np.float32) - np.float32(127.5)) / np.float32(127.5))
    noise, t = to_nhwc(golden["eps"]), jnp.asarray(golden["t"], jnp.int32)
    level, parameterization = SCHEDULE.level(t), parameterizations.eps()
    x_t = process.q_sample(level, x0, noise)
    labels = labels_of(golden, golden["null"], 10)

    def loss(params):
        network = partial(imported.model.apply, {"params": params}, train=True)
        output = parameterizations.apply_network(network, parameterization, x_t, level, labels)
        error = losses.squared_error(noise, output.estimate)
        prediction = parameterizations.to_prediction(parameterization, x_t, level, output)
        parts = losses.diffusion_loss(
            losses.original(), error, SCHEDULE.steps_from(t), x0, x_t, prediction, vlb_weight=0.001
        )
        return jnp.mean(parts["loss"]), parts

    with jax.default_matmul_precision("highest"):
        gradients, parts = jax.jit(jax.grad(loss, has_aux=True))(imported.params)
    return golden, parts, gradients


def adam_state(imported):
    return original.read_optimizer(FOLDER / "train_tiny_optim.pkl", imported)


def test_losses_match_the_original(step):
    golden, parts, _ = step
    assert_allclose(jnp.mean(parts["loss"]), golden["loss"], rtol=1e-6)
    assert_allclose(parts["simple"], golden["loss_simple_per_item"], rtol=1e-6)
    assert_allclose(jnp.mean(parts["simple"]), golden["loss_simple"], rtol=1e-6)
    # The smallest of them are differences of numbers near 1, in float32.
    assert_allclose(parts["vlb"], golden["loss_vlb_per_item"], rtol=1e-6, atol=3e-7)
    assert_allclose(1e-3 * jnp.mean(parts["vlb"]), golden["loss_vlb_times_lambda"], rtol=2e-6)


def test_one_step_matches_the_saved_moments_of_the_original(imported, step):
    config = original_config.get_config()
    state = make_train_state(Experiment.from_config(config), imported.params, 1)
    new = jax.jit(
        partial(
            apply_gradients,
            optimizer=Experiment.from_config(config).training.optimizer,
            ema_weight=AVERAGE,
        )
    )(state, step[2])
    theirs, _ = adam_state(imported)
    (ours,) = (part for part in jax.tree.leaves(new.opt_state, is_leaf=is_adam) if is_adam(part))
    assert int(ours.count) == theirs.count == 1
    jax.tree.map(partial(assert_allclose, rtol=1e-4, atol=1e-7), ours.mu, theirs.mu)
    jax.tree.map(partial(assert_allclose, rtol=1e-4, atol=1e-9), ours.nu, theirs.nu)
    # AdamW in float64, from the moments that the original saved.
    decayed = jax.tree.map(lambda p: p.astype(np.float64) * (1 - 3e-4 * 0.01), imported.params)
    after = jax.tree.map(
        lambda p, mu, nu: p - 3e-4 * (mu / 0.1) / (np.sqrt(nu.astype(np.float64) / 1e-3) + 1e-4),
        decayed,
        theirs.mu,
        theirs.nu,
    )
    jax.tree.map(partial(assert_allclose, rtol=0, atol=1e-6), new.params, after)
    # And some of the original's own parameters after its step.
    state = names.to_state_dict(new.params, imported.layout)
    for name in (key for key in step[0] if key.startswith("after/")):
        assert_allclose(state[name.removeprefix("after/")], step[0][name], rtol=0, atol=1e-6)


def test_imported_moments_continue_adamw(imported, step):
    """In float64 by hand: the second update of AdamW, with the golden batch's gradients again."""
    theirs, settings = adam_state(imported)
    config = original_config.get_config()
    config.update_from_flattened_dict(settings)
    state = make_train_state(Experiment.from_config(config), imported.params, 2, theirs)
    optimizer = Experiment.from_config(config).training.optimizer
    new = jax.jit(partial(apply_gradients, optimizer=optimizer, ema_weight=AVERAGE))(state, step[2])

    def by_hand(p, mu, nu, gradient):
        p, mu, nu, gradient = (np.asarray(a, np.float64) for a in (p, mu, nu, gradient))
        mu = 0.9 * mu + 0.1 * gradient
        nu = 0.999 * nu + 0.001 * gradient**2
        update = (mu / (1 - 0.9**2)) / (np.sqrt(nu / (1 - 0.999**2)) + 1e-4)
        return p - 3e-4 * 0.01 * p - 3e-4 * update

    after = jax.tree.map(by_hand, imported.params, theirs.mu, theirs.nu, step[2])
    jax.tree.map(partial(assert_allclose, rtol=0, atol=1e-6), new.params, after)
    assert int(new.step) == 3


def is_adam(part):
    return hasattr(part, "mu")
