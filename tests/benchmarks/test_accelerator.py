"""The script that measures all on a GPU machine, with a stand-in for what takes time."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# In place of Python: answers a benchmark at once, except that MODE[module] may say otherwise.
STAND_IN = f"""#!{sys.executable}
import json, os, runpy, sys, time
_, _, module, *arguments = sys.argv
if module.endswith("accelerator_report"):
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__")
    sys.exit()
with open(os.environ["CALLS"], "a") as file:
    file.write(module.removeprefix("benchmarks.") + "\\n")
mode = json.loads(os.environ["MODE"]).get(module.removeprefix("benchmarks."))
if mode == "hang":
    time.sleep(60)
if mode == "fail":
    sys.exit("Error: out of memory")
figures = {{"device": "stand-in", "batch": 32, "images_per_second": 12.5}}
open(arguments[arguments.index("--json") + 1], "w").write(json.dumps(figures))
"""


@pytest.fixture
def start(tmp_path):
    """Starts the script; its modules behave as said."""
    python = tmp_path / "python"
    python.write_text(STAND_IN)
    python.chmod(0o755)

    def run(seconds=60, **mode):
        environment = {"PYTHON": python, "RESULTS": tmp_path / "out", "CALLS": tmp_path / "calls"}
        environment |= {"MODE": json.dumps(mode), "SECONDS_IN_ALL": seconds}
        command = ["bash", ROOT / "benchmarks" / "accelerator.sh"]
        environment = os.environ | {name: str(value) for name, value in environment.items()}
        return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)

    return run


def report(folder):
    return json.loads((folder / "out" / "report.json").read_text())


def test_a_part_that_fails_stops_no_other(start, tmp_path):
    assert start(features="fail").wait(60) == 0
    parts = report(tmp_path)
    assert len(parts) == 11
    failed = {name: part["status"] for name, part in parts.items() if part["status"] != "done"}
    assert failed == {"features": "failed: Error: out of memory"}
    table = (tmp_path / "out" / "report.md").read_text()
    assert "| `train_bfloat16_128` | 32 | 12.5 |" in table
    assert "| `features` |  |  |  |  |  | failed: Error: out of memory |" in table


def test_a_killed_script_keeps_its_results_and_resumes(start, tmp_path):
    process = start(sample="hang")
    calls = tmp_path / "calls"
    while not calls.is_file() or "sample" not in calls.read_text():
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 143
    assert calls.read_text().splitlines() == ["train_step"] * 4 + ["sample"]
    assert [part["figures"]["images_per_second"] for part in report(tmp_path).values()] == [
        12.5
    ] * 4
    assert start().wait(60) == 0
    assert {part["status"] for part in report(tmp_path).values()} == {"done"}
    assert calls.read_text().split().count("train_step") == 6


def test_a_spent_time_limit_is_reported(start, tmp_path):
    assert start(seconds=3, train_step="hang").wait(60) == 0
    first, *others = report(tmp_path).values()
    assert first["status"].startswith("stopped after")
    assert {part["status"] for part in others} == {"no time left"}
