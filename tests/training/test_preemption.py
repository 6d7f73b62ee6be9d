"""Signals, locks, and resuming after a kill."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from clu.metrics import Average
from reliability.runs import Run, results_of
from tiny import tiny_transformer_config as tiny_config
from tiny import train

from diffusion_jax import parallel
from diffusion_jax.files import lock
from diffusion_jax.runs import sample_grids
from diffusion_jax.training import loop
from diffusion_jax.training.checkpoints import Checkpoints
from diffusion_jax.training.metrics import RunningMeans
from diffusion_jax.training.preemption import SIGNALS, interruptible

pytestmark = pytest.mark.usefixtures("ordinary_promotion")


def send(*numbers):
    for number in numbers:
        os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", SIGNALS)
def test_each_signal_ends_a_run(number):
    before = [signal.getsignal(each) for each in SIGNALS]
    with interruptible() as interrupted:
        assert not interrupted()
        send(number)
        assert interrupted()
        send(signal.SIGTERM, signal.SIGUSR1, signal.SIGTERM, signal.SIGUSR1)
        assert interrupted()
    assert [signal.getsignal(each) for each in SIGNALS] == before


@pytest.fixture
def ctrl_c():
    """Ctrl-C raises KeyboardInterrupt, as it does unless the tests run in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c")
def test_only_a_third_ctrl_c_raises():
    with interruptible() as interrupted:
        send(signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
        assert interrupted()
        assert not interrupted.hurried
        send(signal.SIGINT)
        assert interrupted.hurried
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)


@pytest.mark.usefixtures("ctrl_c")
def test_a_second_ctrl_c_ends_what_can_be_skipped():
    with interruptible() as interrupted:
        with interrupted.skippable():
            send(signal.SIGINT)
            with pytest.raises(KeyboardInterrupt):
                send(signal.SIGINT)
        assert interrupted.hurried


@pytest.mark.usefixtures("ctrl_c")
def test_a_second_ctrl_c_in_one_of_several_processes_raises(monkeypatch):
    """The others would wait for it in the sampler."""
    with interruptible() as interrupted:
        monkeypatch.setattr(jax, "process_count", lambda: 2)
        send(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)
        assert not interrupted.hurried


@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.parametrize("at_once", [False, True])
def test_a_second_ctrl_c_skips_the_samples_and_saves(tmp_path, monkeypatch, capfd, at_once):
    """At once, in the first step, or during the samples."""
    shard, signals = parallel.shard, [signal.SIGINT] * (2 if at_once else 1)
    monkeypatch.setattr(loop.parallel, "shard", lambda rows: send(*signals) or shard(rows))
    monkeypatch.setattr(sample_grids.Sampler, "__call__", lambda *_, **__: send(signal.SIGINT))
    assert int(train(tiny_config(steps=50), tmp_path).step) == 1
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        assert checkpoints.steps() == [1]
    printed = "".join(capfd.readouterr())
    assert printed.count("Stopping after this step: a checkpoint is saved") == 1
    assert "The samples of step 1 are skipped" in printed
    assert not list((tmp_path / "samples").glob("*.png"))


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_twice_during_samples_saves_at_the_next_step(tmp_path, monkeypatch):
    twice = [signal.SIGINT] * 2
    monkeypatch.setattr(sample_grids.Sampler, "__call__", lambda *_, **__: send(*twice))
    assert int(train(tiny_config(steps=50, sample_every=3), tmp_path).step) == 4
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        assert checkpoints.steps()[-1] == 4


def test_a_second_signal_during_the_last_write_loses_nothing(tmp_path, monkeypatch):
    leave = Checkpoints.__exit__

    def signalled(self, *exception):
        send(signal.SIGTERM, signal.SIGUSR1)
        leave(self, *exception)

    shard = parallel.shard
    monkeypatch.setattr(Checkpoints, "__exit__", signalled)
    monkeypatch.setattr(loop.parallel, "shard", lambda rows: send(signal.SIGUSR1) or shard(rows))
    assert int(train(tiny_config(steps=50), tmp_path).step) == 1
    monkeypatch.undo()
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        assert checkpoints.steps() == [1]


def test_a_killed_run_leaves_the_same_files(tmp_path, monkeypatch):
    """Killed in step 5, with a line's first step in the checkpoint, and between the checkpoint of
    step 6 and its picture."""
    config = tiny_config(sample_every=3, steps=7)
    train(config, tmp_path / "whole")
    steps, shard = [], parallel.shard

    def killed(rows):
        steps.append(rows)
        if len(steps) == 5:
            raise SystemExit
        return shard(rows)

    with monkeypatch.context() as patch:
        patch.setattr(loop.parallel, "shard", killed)
        with pytest.raises(SystemExit):
            train(config, tmp_path / "run")
    with Checkpoints(tmp_path / "run" / "checkpoints") as checkpoints:
        assert checkpoints.newest() == 3
        _, count = checkpoints.metadata(3)["running_metrics"]["loss"]
        assert count == 16  # of step 3 alone, since the line of step 2
    with monkeypatch.context() as patch:
        patch.setattr("diffusion_jax.runs.train.make_sample_grid", lambda *_: lambda _: sys.exit())
        with pytest.raises(SystemExit):
            train(config, tmp_path / "run")
    assert [path.name for path in (tmp_path / "run" / "samples").iterdir()] == ["step_0000003.png"]
    train(config, tmp_path / "run")
    assert results_of(tmp_path / "run") == results_of(tmp_path / "whole")


def test_running_means_resume_exactly():
    third, tenth = ({"loss": Average(total=np.float32(1 / x), count=np.int32(x))} for x in (3, 10))
    whole, before = RunningMeans(), RunningMeans()
    for running in (whole, before):
        running.add(third)
    after = RunningMeans(json.loads(json.dumps(before.saved())))
    for running in (whole, after):
        running.add(tenth)
    assert after.saved() == whole.saved() == {"loss": (float(np.float32(1 / 3 + 1 / 10)), 13)}
    assert after.take() == whole.take()
    assert after.saved() == {}
    after.add(third)
    after.add({"simple": tenth["loss"]})  # of another loss: those before cannot be merged
    assert after.saved() == {"simple": (float(np.float32(0.1)), 10)}


def test_a_folder_is_locked_for_others(tmp_path):
    held = f"trained by process {os.getpid()} on {os.uname().nodename}; wait"
    with (
        lock.only_one(tmp_path, "trained"),
        pytest.raises(ValueError, match=held),
        lock.only_one(tmp_path, "trained"),
    ):
        raise AssertionError("two hold the lock")
    with lock.only_one(tmp_path, "trained"):
        pass


def test_the_lock_of_a_killed_process_is_released(tmp_path):
    program = "import pathlib, runpy, sys; only_one = runpy.run_path(sys.argv[1])['only_one']\n"
    program += "with only_one(pathlib.Path(sys.argv[2]), 'trained'): print('held'); input()"
    holder = subprocess.Popen(
        [sys.executable, "-u", "-c", program, lock.__file__, tmp_path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    holder.stdout.readline()
    with pytest.raises(ValueError, match=f"process {holder.pid} on"):
        train(tiny_config(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [lock.FILE]
    holder.kill()
    holder.communicate()
    with lock.only_one(tmp_path, "trained"):
        pass


def test_a_disk_without_locks_never_refuses(tmp_path, monkeypatch):
    def none(file, operation):
        raise OSError(lock.errno.ENOLCK, "No locks available")

    monkeypatch.setattr(lock.fcntl, "flock", none)
    with lock.only_one(tmp_path, "trained"), lock.only_one(tmp_path, "trained"):
        pass


def test_two_processes_stop_together_and_notice_a_dead_one(tmp_path):
    """The second one gets a signal; then the first, the coordinator, is killed."""
    endless = {"steps": 100_000, "checkpoint_every": 100_000, "sample_every": 100_000}
    run = Run(tmp_path / "run", 2, endless)
    run.wait_for_lines(3)
    run.send(signal.SIGUSR1, 1)
    run.send(signal.SIGTERM, 1)
    codes, seconds = run.end()
    assert codes == [os.EX_TEMPFAIL] * 2, run.output(0)
    assert seconds < 60
    with Checkpoints(tmp_path / "run" / "checkpoints") as checkpoints:
        (step,) = checkpoints.steps()
    assert f"Interrupted after step {step} of 100000; the same" in run.output(0)

    run = Run(tmp_path / "run", 2, endless)
    run.wait_for_lines(step + 2)
    run.send(signal.SIGKILL, 0)
    codes, seconds = run.end()
    assert codes[1] not in (0, os.EX_TEMPFAIL, -signal.SIGKILL)
    assert seconds < 60
    # JAX may notice before the collective fails, and reports it.
    lost = ("Error: Another process of this command has ended", "another task died")
    assert any(line in run.output(1) for line in lost)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_during_imports_ends_the_script(number, tmp_path):
    """Also where Python would print the exception and continue."""
    (tmp_path / "absl.py").write_text(
        f"import os\nclass Gone:\n    def __del__(self):\n        os.kill(os.getpid(), {number})\n"
        "        for _ in range(100):\n            pass\nGone()\n"
    )
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2])])
    done = subprocess.run(
        [sys.executable, "-m", "scripts.train"],
        cwd=Path(__file__).parents[2],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (130 if number == signal.SIGINT else 75, "")


def test_a_signal_before_training_exits_with_75():
    code = (
        "import os, signal\n"
        "from scripts import train\n"
        "from scripts.cli import config_flag\n"
        "config_flag.value = lambda *names: os.kill(os.getpid(), signal.SIGUSR1)\n"
        "train.main()"
    )
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", code], cwd=root).returncode == 75
