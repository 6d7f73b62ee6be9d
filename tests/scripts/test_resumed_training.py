"""A stored run that is resumed from the command line, without --config."""

import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from tiny import tiny_transformer_config, train

from diffusion_jax.config.experiment import Experiment
from diffusion_jax.workdir.run_files import load_config

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def resumed(tmp_path_factory, ordinary_promotion):
    """(the state after 4 steps, the workdir after 8, the output of the second command).

    The rate decays to 0 at the last step, and neither warm-up nor decay has a number of its own.
    """
    workdir = tmp_path_factory.mktemp("resume") / "run"
    changes = {"optimizer__warmup_steps": None, "optimizer__decay": "cosine"}
    state = train(tiny_transformer_config(steps=4, log_every=1, **changes), workdir)
    done = subprocess.run(
        [sys.executable, "-m", "scripts.train", f"--workdir={workdir}", "--config.steps=8"],
        **{"cwd": ROOT, "capture_output": True, "text": True},
    )
    assert done.returncode == 0, done.stderr
    return state, workdir, done.stdout + done.stderr


def test_more_steps_resume_with_a_positive_learning_rate(resumed):
    _, workdir, _ = resumed
    config = load_config(workdir)
    assert config.steps == 8
    assert config.optimizer.decay_steps is None
    assert config.optimizer.warmup_steps is None
    rates = [
        float(Experiment.from_config(config).training.learning_rate(step)) for step in range(4, 8)
    ]
    assert min(rates) > 0
    assert sorted(rates, reverse=True) == rates


def test_more_steps_change_the_parameters(resumed):
    before, workdir, output = resumed
    assert "Resuming from the checkpoint of step 4" in output
    after = train(load_config(workdir), workdir)  # which has all steps already
    assert int(after.step) == 8
    pairs = zip(jax.tree.leaves(before.params), jax.tree.leaves(after.params))
    assert any(not np.array_equal(old, new) for old, new in pairs)
