"""One command, or the Python, of a block in the documentation, with reduced sizes, in a fork.

The process that forks has imported what takes long: a command then takes a fraction of its time.
"""

import importlib
import os
import re
import runpy
import shlex
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from docs import block_sizes

ROOT = Path(__file__).resolve().parent.parent

# What cannot be run here, and why: all words of a key are in the command.
NOT_RUN = {
    "pip install": "it needs the net; the file of requirements must be there",
    "-m venv": "this environment is used",
    "-m pytest": "the tests run by themselves",
    "scripts.play": "it serves until it is stopped; test_playground.py opens its page",
    "scripts.data mnist": "it downloads",
    "scripts.data imagenet64 --tfds": "it needs TensorFlow",
    "scripts.data tfds": "it downloads, and needs TensorFlow",
    "benchmarks.digits_quality": "it trains for three minutes",
    "benchmarks.compile": "it needs the compilers of GPUs",
    "scripts.fid check": "it needs files that are published, and the weights of Inception",
}
# What srun sets, for a job of one process.
SLURM = {"SLURM_JOB_ID": "1", "SLURM_STEP_NODELIST": "localhost", "SLURM_NTASKS": "1"}
SLURM |= {"SLURM_PROCID": "0", "SLURM_LOCALID": "0"}
AS_IT_IS, REDUCED = "+ as it is:", "+ reduced:"  # before a command, in its output


class Failed(Exception):
    """A command that ended otherwise than with exit code 0; has the end of its output."""


def preload() -> None:
    """Imports what commands import, but the scripts, whose flags are defined where they run."""
    for name in ("evaluate", "sweep", "draw", "edits", "editing", "train", "report"):
        importlib.import_module(f"diffusion_jax.runs.{name}")
    for name in ("clu.parameter_overview", "matplotlib.pyplot", "sklearn.svm"):
        importlib.import_module(name)


def commands(text: str) -> list[tuple[int, list[str]]]:
    """(line, words) of the commands of a block; lines are counted from 0."""
    found, begin, parts = [], 0, []
    for number, line in enumerate(text.splitlines()):
        begin = begin if parts else number
        parts.append(line.removesuffix("\\"))
        if line.endswith("\\"):
            continue
        for command in " ".join(parts).split("&&"):
            if words := shlex.split(command, comments=True):
                found.append((begin, words))
        parts = []
    return found


def run(words: Sequence[str], folder: Path, before: str = "") -> str:
    """Runs a command in a folder; returns "run", "reduced", or the key of NOT_RUN.

    before: Python that adds to the library, as the reader has done. Raises Failed.
    """
    words = [re.sub(r"^~(?=/)|\$HOME", str(folder / "home"), word) for word in words]
    for key in NOT_RUN:
        if set(key.split()) <= set(" ".join(words).replace("/", " ").split()) | set(words):
            check_requirements(words)
            return key
    environment = {}
    if words[0] == "sbatch":
        words, environment = inner(words), SLURM
    if not re.fullmatch(r"(.*/)?python3?", words[0]) or words[1] != "-m":
        raise Failed(f"Unknown command: {shlex.join(words)}")
    module, given = words[2], words[3:]

    def call() -> None:
        os.environ.update(environment)
        exec(before, {"__name__": "before"})
        arguments = block_sizes.reduced(module, given)
        same = block_sizes.parsed(arguments) == block_sizes.parsed(given)
        print(AS_IT_IS if same else REDUCED, shlex.join([module, *arguments]), flush=True)
        sys.argv = [module, *arguments]
        runpy.run_module(module, run_name="__main__", alter_sys=True)

    output = forked(call, folder)
    return "run" if AS_IT_IS in output else "reduced"


def check_requirements(words: Sequence[str]) -> None:
    for word in words:
        if Path(word).name.startswith("requirements") and not (ROOT / word).is_file():
            raise Failed(f"There is no {word}")


def inner(words: Sequence[str]) -> list[str]:
    """The command that a batch file passes to srun."""
    script = next(index for index, word in enumerate(words) if word.endswith(".sbatch"))
    text = (ROOT / words[script]).read_text()
    text = text.replace("source .venv/bin/activate\n", "").replace("exec srun", "srun")
    text = "srun() { printf '%s\\n' \"$@\"; }\n" + text
    shell = ["bash", "-c", text, *words[script:]]
    done = subprocess.run(shell, capture_output=True, text=True)
    if done.returncode:
        raise Failed(done.stderr)
    return done.stdout.splitlines()


def forked(call: Callable[[], object], folder: Path) -> str:
    """Calls a function in a fork and a folder; returns what it prints. Raises Failed."""
    sys.stdout.flush()
    with tempfile.TemporaryFile() as file:
        child = os.fork()
        if child == 0:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
            sys.stdout, sys.stderr = (os.fdopen(number, "w") for number in (1, 2))
            os._exit(code_of(call, folder))
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        file.seek(0)
        output = file.read().decode(errors="replace")
    if code:
        lines = output.replace("\r", "\n").splitlines()
        raise Failed("\n".join([f"exit code {code}", *lines[:1], *lines[1:][-20:]]))
    return output


def code_of(call: Callable[[], object], folder: Path) -> int:
    """The exit code of a call in a folder, whose home is there, too."""
    os.chdir(folder)
    os.environ["HOME"] = str(folder / "home")
    try:
        call()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return 0


def run_python(blocks: Sequence[tuple[int, str]], page: Path, folder: Path) -> None:
    """Runs blocks of Python, (line before it, text), in one namespace. Raises Failed."""

    def call() -> None:
        namespace = {"__name__": f"docs.{page.stem}"}
        for line, text in blocks:  # with the page's lines in tracebacks
            exec(compile("\n" * line + text, str(page), "exec"), namespace)

    forked(call, folder)
