"""Distributions of timesteps in training."""

from collections import defaultdict, deque
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from tiny import tiny_transformer_config, train

from diffusion_jax.config.experiment import Experiment
from diffusion_jax.diffusion.schedules import make_schedule
from diffusion_jax.diffusion.timestep_samplers import TIMESTEP_SAMPLERS
from diffusion_jax.training.checkpoints import Checkpoints
from diffusion_jax.training.logging import read_metrics
from diffusion_jax.training.state import TrainState

SCHEDULE = make_schedule("linear", 5)
SAMPLER = TIMESTEP_SAMPLERS["loss_second_moment"](SCHEDULE, memory=3, uniform_part=0.1)


def test_the_last_losses_of_each_step_are_remembered():
    """Against a queue for each step; a batch has some steps more often than the memory is long."""
    generator = np.random.default_rng(0)
    queues, history = defaultdict(lambda: deque(maxlen=3)), SAMPLER.init()
    update = jax.jit(SAMPLER.update)
    for _ in range(6):
        t = generator.choice([1, 2, 2, 2, 5], 8)
        losses = generator.uniform(size=8).astype(np.float32)
        for step, loss in zip(t, losses):
            queues[step].append(loss)
        history = update(history, jnp.asarray(t), jnp.asarray(losses))
        for step in range(1, 6):
            kept = np.sort(history["losses"][step - 1])[::-1][: len(queues[step])]
            assert_array_equal(kept, np.sort(queues[step])[::-1])
    assert_array_equal(history["seen"][2:4], 0)


def test_step_probabilities_follow_the_root_mean_squared_loss():
    keys = jax.random.split(jax.random.key(0), 4000)
    draw = jax.jit(SAMPLER.draw)
    t, weights = draw(keys, SAMPLER.init())
    assert_allclose(weights, 1, rtol=1e-6)  # nothing is known yet
    assert_allclose(np.bincount(t, minlength=6)[1:] / 4000, 0.2, atol=0.03)
    losses = jnp.array([[1.0, 1, 1], [2, 2, 2], [0, 0, 0], [0, 3, 0], [1, 1, 1]])
    history = {"losses": losses, "seen": jnp.array([3, 4, 3, 9, 3])}
    root = np.array([1, 2, 0, np.sqrt(3), 1])
    p = 0.9 * root / root.sum() + 0.1 / 5
    t, weights = draw(keys, history)
    assert_allclose(np.bincount(t, minlength=6)[1:] / 4000, p, atol=0.03)
    # The weighted mean of anything over t is its uniform mean.
    assert_allclose(weights, 1 / (5 * p[np.asarray(t) - 1]), rtol=1e-5)
    plain = TIMESTEP_SAMPLERS["loss_second_moment"](
        SCHEDULE, uniform_part=0.1, memory=3, reweight=False
    )
    same, weights = jax.jit(plain.draw)(keys, history)
    assert_array_equal(same, t)
    assert_array_equal(weights, 1)
    almost = history | {"seen": jnp.array([3, 4, 2, 9, 3])}
    assert_allclose(draw(keys, almost)[1], 1, rtol=1e-6)


def test_options_out_of_range_are_refused():
    make = TIMESTEP_SAMPLERS["loss_second_moment"]
    with pytest.raises(ValueError, match="loss_second_moment needs a discrete schedule"):
        make(make_schedule("edm"))
    with pytest.raises(ValueError, match="memory=0 must be at least 1"):
        make(SCHEDULE, memory=0)
    with pytest.raises(ValueError, match="part=simple must be loss or vlb"):
        make(SCHEDULE, part="simple")
    with pytest.raises(ValueError, match=r"uniform_part=2.0 must be in \[0, 1\]"):
        make(SCHEDULE, uniform_part=2.0)


@pytest.mark.usefixtures("ordinary_promotion")
def test_a_resumed_run_keeps_the_loss_history(tmp_path):
    fields = {"timesteps__name": "loss_second_moment", "schedule__num_steps": 3}
    fields |= {"timesteps__loss_second_moment__memory": 4, "sampling__steps": 2}
    config = tiny_transformer_config(steps=4, checkpoint_every=2, sample_every=100, **fields)
    whole = train(config, tmp_path / "whole")
    assert jnp.all(whole.history["seen"] >= 4)  # so that the last steps were drawn by loss
    assert int(whole.history["seen"].sum()) == 4 * config.batch_size
    for step in (2, 4):
        config.steps = step
        parts = train(config, tmp_path / "parts")
    jax.tree.map(assert_array_equal, whole, parts)


@pytest.mark.usefixtures("ordinary_promotion")
def test_the_history_can_be_of_the_bound(tmp_path):
    """The rule of gmongaras's program; the history then has the values that are logged as vlb."""
    fields = {"name": "loss_second_moment", "loss_second_moment__part": "vlb"}
    fields |= {"loss_second_moment__memory": 16, "loss_second_moment__reweight": False}
    fields = {f"timesteps__{name}": value for name, value in fields.items()}
    config = tiny_transformer_config(steps=1, log_every=1, schedule__num_steps=3, **fields)
    config.sampling.steps = 2
    history = train(config, tmp_path / "run").history
    (line,) = read_metrics(tmp_path / "run")
    mean = float(history["losses"].sum() / history["seen"].sum())
    assert_allclose(mean, line["vlb"], rtol=1e-5)
    assert abs(line["vlb"] - line["loss"]) > 0.01
    config.update_from_flattened_dict({"model.learn_variance": False, "loss.kind": "simple"})
    with pytest.raises(ValueError, match=r"part=vlb needs a bound, which loss\.kind=simple"):
        Experiment.from_config(config)


def test_a_checkpoint_without_a_history_begins_an_empty_one(tmp_path):
    arrays = {"a": np.ones(2, np.float32)}
    state = TrainState(np.array(3, np.int32), arrays, arrays, arrays)
    like = replace(state, history=SAMPLER.init())
    with Checkpoints(tmp_path / "checkpoints", create=True) as checkpoints:
        checkpoints.save(3, state)
        checkpoints.save(4, replace(like, history=jax.tree.map(lambda x: x + 1, like.history)))
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        jax.tree.map(assert_array_equal, checkpoints.restore(3, like).history, SAMPLER.init())
        assert np.all(checkpoints.restore(4, like).history["seen"] == 1)
        assert checkpoints.restore(4, state).history is None
