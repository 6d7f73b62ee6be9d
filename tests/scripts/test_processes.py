"""Joining several processes: mistakes in the flags, and processes that never come."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from forks import run_each

ROOT = Path(__file__).parents[2]
IMPATIENT = """
import sys
from scripts.cli import processes
processes.SILENCE, processes.JOINING = 0.5, 3
sys.argv[0] = "scripts/sample.py"
from scripts import sample
sample.app.run(sample.main)
"""
SOME = "--num_processes=2"


@pytest.fixture
def port():
    """A port in use."""
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        yield taken.getsockname()[1]


def test_mistakes_are_one_line(port):
    cases = {
        ("--coordinator=node0", SOME, "--process_id=0"): "--coordinator=node0 must be HOST:PORT",
        ("--coordinator=:8476", SOME, "--process_id=0"): "must be HOST:PORT",
        ("--coordinator=a:70000", SOME, "--process_id=0"): "a port from 1 to 65535",
        ("--coordinator=a:http", SOME, "--process_id=0"): "a port from 1 to 65535",
        ("--coordinator=a:1234", SOME, "--process_id=2"): "0 to --num_processes - 1 = 1",
        ("--coordinator=a:1234", SOME, "--process_id=-1"): "--process_id=-1 must be",
        ("--coordinator=a:1234", SOME): "belong together",
        (f"--coordinator=localhost:{port}", SOME, "--process_id=0"): f"listen on port {port} (",
        ("--coordinator=auto",): "Start with srun",
    }
    environment = {name: "" for name in os.environ if name.startswith(("SLURM_", "OMPI_"))}
    for expected, done in zip(cases.values(), run_each("sample", cases, environment=environment)):
        assert done.returncode == 1
        assert expected in done.stderr
        assert done.stderr.count("\n") == 1, done.stderr


def test_half_an_environment_of_slurm_is_one_line():
    environment = {"SLURM_JOB_ID": "5", "SLURM_STEP_NODELIST": "a"}
    (done,) = run_each("sample", [["--coordinator=auto"]], environment=environment)
    assert done.returncode == 1
    assert "the environment is not that of a cluster's job" in done.stderr
    assert done.stderr.count("\n") == 1, done.stderr


@pytest.mark.parametrize(
    ("process_id", "missing"), [(0, "processes 1 to 1: start"), (1, "all of the 2 processes at")]
)
def test_waiting_is_said_and_ends(process_id, missing):
    with socket.socket() as free:
        free.bind(("", 0))
        address = f"localhost:{free.getsockname()[1]}"
    flags = [f"--coordinator={address}", SOME, f"--process_id={process_id}", "--workdir=digits"]
    done = subprocess.run(
        [sys.executable, "-c", IMPATIENT, *flags],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1
    waiting, error = done.stderr.splitlines()
    assert waiting.startswith(f"Waiting at most 0.05 minutes for {missing}")
    assert error.startswith(f"Error: After 0.05 minutes this process still waits for {missing}")
    assert address in error
