"""The number of devices, machines and micro-batches changes speed, and nothing else."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import quick
from numpy.testing import assert_allclose

from diffusion_jax.training.checkpoints import Checkpoints
from diffusion_jax.training.logging import read_metrics

ROOT = Path(__file__).parents[2]


def start(out, *arguments):
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    command = [sys.executable, "tests/run_on_devices.py", out, *map(str, arguments)]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process, out):
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output[-3000:]
    return np.load(out)


@pytest.fixture(scope="module")
def one_device(tmp_path_factory):
    out = tmp_path_factory.mktemp("one") / "run.npz"
    return finish(start(out, 1, 1, 0), out)


def check_same(run, reference):
    assert run.files == reference.files
    for name in ("losses", "norms"):  # clipping hides the size of a gradient from all else
        assert_allclose(run[name], reference[name], rtol=1e-5)
    for name in reference.files:
        if name not in ("losses", "norms", "images"):
            assert_allclose(run[name], reference[name], atol=1e-5, err_msg=name)
    assert_allclose(run["images"], reference["images"], atol=1e-4)


@pytest.mark.parametrize(
    ("devices", "micro_batches", "shard_state"),
    [(2, 1, 0), (8, 1, 0), (1, 4, 0), (1, 1, 1), (8, 1, 1)],
)
def test_devices_and_micro_batches(devices, micro_batches, shard_state, one_device, tmp_path):
    out = tmp_path / "run.npz"
    check_same(finish(start(out, devices, micro_batches, shard_state), out), one_device)


@pytest.fixture
def coordinator():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


@pytest.mark.parametrize("shard_state", [0, 1])
def test_two_processes(shard_state, one_device, coordinator, tmp_path):
    outs = [tmp_path / f"run_{i}.npz" for i in range(2)]
    processes = [start(outs[i], 2, 1, shard_state, coordinator, i, 2) for i in range(2)]
    for process, out in zip(processes, outs):
        check_same(finish(process, out), one_device)


def test_two_processes_train_save_and_resume(coordinator, tmp_path):
    tiny = {"width": 8, "depth": 1, "num_heads": 2, "patch_size": 4}  # compiles fast
    small = [f"--config.model.{name}={value}" for name, value in tiny.items()]
    small += ["--config.optimizer.warmup_steps=1"]
    small += ["--config.batch_size=4", "--config.sampling.steps=2", "--config.log_every=1"]
    common = [sys.executable, "-m", "scripts.train", "--config=configs/digits_dit.py", *small]
    common += [f"--workdir={tmp_path}", f"--coordinator={coordinator}", "--num_processes=2"]
    flags = quick.flags(1)
    for steps in (2, 3):
        processes = [
            subprocess.Popen(
                [*common, f"--config.steps={steps}", f"--process_id={i}"],
                cwd=ROOT,
                env=os.environ | {"XLA_FLAGS": flags},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for i in range(2)
        ]
        outputs = [process.communicate(timeout=300)[0] for process in processes]
        assert [process.returncode for process in processes] == [0, 0], outputs
    assert "Continuing from the checkpoint of step 2" in outputs[0]
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        assert checkpoints.steps() == [2, 3]
    assert [line["step"] for line in read_metrics(tmp_path)] == [1, 2, 3]
