"""Results do not depend on the number of devices, processes and micro-batches."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose

from diffusion_jax.training.checkpoints import Checkpoints
from diffusion_jax.training.logging import read_metrics

ROOT = Path(__file__).parents[2]


def start(out, devices, cases, *distributed):
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    command = [sys.executable, "tests/run_on_devices.py", out, devices, ",".join(cases)]
    return subprocess.Popen(
        [str(argument) for argument in (*command, *distributed)],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process):
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output[-3000:]
    return output


@pytest.fixture(scope="module")
def one_device(tmp_path_factory):
    """The folder of the results of one device, by micro-batches and sharding."""
    out = tmp_path_factory.mktemp("one")
    finish(start(out, 1, ["1-0", "4-0", "1-1"]))
    return out


def check_same(path, one_device):
    run, reference = np.load(path), np.load(one_device / "1-0.npz")
    assert run.files == reference.files
    for name in ("losses", "norms"):  # clipping hides the size of a gradient from all else
        assert_allclose(run[name], reference[name], rtol=1e-5)
    for name in reference.files:
        if name not in ("losses", "norms", "images"):
            assert_allclose(run[name], reference[name], atol=1e-5, err_msg=name)
    assert_allclose(run["images"], reference["images"], atol=1e-4)


@pytest.mark.parametrize("case", ["4-0", "1-1"])
def test_micro_batches_and_sharding_on_one_device_compute_the_same(case, one_device):
    check_same(one_device / f"{case}.npz", one_device)


@pytest.mark.parametrize(("devices", "cases"), [(2, ["1-0"]), (8, ["1-0", "1-1"])])
def test_devices_compute_the_same(devices, cases, one_device, tmp_path):
    finish(start(tmp_path, devices, cases))
    for case in cases:
        check_same(tmp_path / f"{case}.npz", one_device)


def free_address():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


def test_two_processes_compute_the_same_and_resume(one_device, tmp_path):
    address, outs = free_address(), [tmp_path / str(index) for index in range(2)]
    processes = []
    for index, out in enumerate(outs):
        out.mkdir()
        distributed = (tmp_path / "run", address, index, 2)
        processes.append(start(out, 2, ["1-0", "1-1"], *distributed))
    outputs = [finish(process) for process in processes]
    for out in outs:
        for case in ("1-0", "1-1"):
            check_same(out / f"{case}.npz", one_device)
    assert "Resuming from the checkpoint of step 2" in outputs[0]
    with Checkpoints(tmp_path / "run" / "checkpoints") as checkpoints:
        assert checkpoints.steps() == [2, 3]
    assert [line["step"] for line in read_metrics(tmp_path / "run")] == [1, 2, 3]
