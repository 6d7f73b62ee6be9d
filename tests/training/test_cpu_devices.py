"""The devices that a CPU counts as."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TRAINING = [
    "scripts.train",
    "--config=configs/digits_dit.py",
    "--config.steps=1",
    "--config.model.depth=1",
]
TRAINING += ["--config.model.width=8", "--config.model.num_heads=2", "--config.sampling.steps=2"]
# Runs a script and then prints how many devices JAX has.
COUNTING = """
import atexit, jax, runpy, sys
atexit.register(lambda: print(jax.device_count(), "devices"))
del sys.argv[0]
runpy.run_module(sys.argv[0], run_name="__main__")
"""


def run(*arguments, **environment):
    """Output of Python, with no devices set but by `environment`."""
    free = {name: value for name, value in os.environ.items() if name not in ("XLA_FLAGS", "NPROC")}
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=free | environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def counted(workdir, *arguments, **environment):
    """Device line of a training of one step."""
    run("-m", *TRAINING, f"--workdir={workdir}", *arguments, **environment)
    return json.loads((workdir / "environment.json").read_text())[0]["devices"]


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="takes two cores")
def test_cpu_devices_follow_config_and_batch(tmp_path):
    assert counted(tmp_path / "two", "--config.batch_size=8") == "2 x cpu"
    sampling = ["scripts.sample", f"--workdir={tmp_path / 'two'}", "--labels=3", "--count=2"]
    assert run("-c", COUNTING, *sampling).endswith("2 devices\n")
    assert run("-c", COUNTING, *sampling, "--batch_size=1").endswith("1 devices\n")
    parts = ["--config.batch_size=6", "--config.micro_batches=2"]
    assert counted(tmp_path / "parts", *parts) == "1 x cpu"
    environment = {"JAX_NUM_CPU_DEVICES": "1"}
    assert counted(tmp_path / "given", "--config.batch_size=8", **environment) == "1 x cpu"
