"""The batch files, with stand-ins for srun and python."""

import os
import subprocess
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "scripts" / "slurm"


def command(tmp_path, name, *arguments, code=0):
    """Returns the commands that a batch file runs. code: exit code of its program and the file."""
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "activate").write_text(
        f"srun() {{ printf '%s\\n' \"$@\"; return {code}; }}\n"
        "scontrol() { printf 'scontrol %s\\n' \"$*\"; }\n"
    )
    # exec would look for a program.
    script = (FOLDER / name).read_text().replace("exec srun", "srun")
    done = subprocess.run(
        ["bash", "-c", script, name, *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=os.environ | {"SLURM_JOB_ID": "17"},
    )
    assert done.returncode == code, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("name", ["train.sbatch", "train_nodes.sbatch"])
def test_a_batch_file_passes_its_arguments_to_training(tmp_path, name):
    run = command(tmp_path, name, "configs/a b.py", "runs/a", "--config.seed=1")
    expected = ["python", "-m", "scripts.train", "--config", "configs/a b.py", "--workdir"]
    expected += ["runs/a"] + ["--coordinator=auto"] * (name == "train_nodes.sbatch")
    assert run == [*expected, "--config.seed=1"]
    assert (FOLDER / name).read_text().count("#SBATCH") >= 6


@pytest.mark.parametrize("name", ["train.sbatch", "train_nodes.sbatch"])
@pytest.mark.parametrize(("code", "again"), [(75, True), (0, False), (1, False)])
def test_a_job_is_queued_again_only_after_exit_code_75(tmp_path, name, code, again):
    run = command(tmp_path, name, "configs/a.py", "runs/a", code=code)
    assert (run[-1] == "scontrol requeue 17") == again
    assert "#SBATCH --requeue" in (FOLDER / name).read_text()


def test_a_batch_file_passes_its_arguments_to_sampling(tmp_path):
    run = command(tmp_path, "sample.sbatch", "runs/a", "out", "--count", "9")
    expected = ["python", "-m", "scripts.sample", "--workdir", "runs/a", "--out", "out"]
    assert run == [*expected, "--count", "9"]
