"""The batch files, with stand-ins for srun and python."""

import subprocess
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "scripts" / "slurm"


def command(tmp_path, name, *arguments):
    """What a batch file runs."""
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "activate").write_text("srun() { printf '%s\\n' \"$@\"; }\n")
    # exec would look for a program.
    script = (FOLDER / name).read_text().replace("exec srun", "srun")
    done = subprocess.run(
        ["bash", "-c", script, name, *arguments], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("name", ["train.sbatch", "train_nodes.sbatch"])
def test_training(tmp_path, name):
    run = command(tmp_path, name, "configs/a b.py", "runs/a", "--config.seed=1")
    expected = ["python", "-m", "scripts.train", "--config", "configs/a b.py", "--workdir"]
    expected += ["runs/a"] + ["--coordinator=auto"] * (name == "train_nodes.sbatch")
    assert run == [*expected, "--config.seed=1"]
    assert (FOLDER / name).read_text().count("#SBATCH") >= 6


@pytest.mark.parametrize("name", ["train.sbatch", "train_nodes.sbatch"])
@pytest.mark.parametrize(("code", "again"), [(75, True), (0, False), (1, False)])
def test_an_interrupted_job_queues_again(tmp_path, name, code, again):
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    stand_ins = f"srun() {{ return {code}; }}\nscontrol() {{ echo $@ > scontrol; }}\n"
    (tmp_path / ".venv" / "bin" / "activate").write_text(stand_ins)
    arguments = ["bash", FOLDER / name, "configs/a.py", "runs/a"]
    done = subprocess.run(arguments, cwd=tmp_path, env={"SLURM_JOB_ID": "7"}, check=False)
    assert done.returncode == code
    asked = tmp_path / "scontrol"
    assert (asked.read_text() if asked.exists() else None) == ("requeue 7\n" if again else None)


def test_sampling(tmp_path):
    run = command(tmp_path, "sample.sbatch", "runs/a", "out", "--count", "9")
    expected = ["python", "-m", "scripts.sample", "--workdir", "runs/a", "--out", "out"]
    assert run == [*expected, "--count", "9"]
