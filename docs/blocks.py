"""Pytest plugin that runs the blocks of bash and Python in README and docs.

    python -m pytest -c docs/pytest.ini README.md docs

Each page runs from top to bottom in a folder of its own, which is its home folder, too. Commands
run in forks of a process that has imported the large libraries; `small_command.py` reduces their
sizes. An HTML comment `<!-- invisible-code: bash` prepares what a page expects.
"""

import contextlib
import multiprocessing
import os
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import quick
from sybil import Example, Sybil
from sybil.parsers.markdown import CodeBlockParser, SkipParser

from docs import small_command

ROOT = Path(__file__).resolve().parent.parent
# Compiling takes longer than running.
ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",
    "JAX_COMPILATION_CACHE_DIR": str(ROOT / "build" / "compiled"),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "XLA_FLAGS": f"{quick.COMPILER} --xla_cpu_parallel_codegen_split_count=1",
}
PRELOADED = ["clu.parameter_overview", "flax.linen", "jax", "matplotlib.pyplot", "optax"]
PRELOADED += ["orbax.checkpoint", "scipy.linalg", "sklearn.datasets", "sklearn.svm"]
FORKS = multiprocessing.get_context("forkserver")


def commands(text: str) -> list[list[str]]:
    """Returns the words of each command of a block of bash."""
    lines = re.split(r"\n|&&", os.path.expandvars(text.replace("\\\n", " ")))
    words = [shlex.split(line, comments=True) for line in lines]
    return [[os.path.expanduser(word) for word in command] for command in words if command]


def run_bash(example: Example) -> str | None:
    """Runs a block and returns its output if a command fails; skips it if none is to be run."""
    reasons, ran = [], False
    for words in commands(example.parsed):
        if reason := small_command.not_run(words):
            reasons.append(reason)
            continue
        ran = True
        arguments = (words, Path.cwd(), {"HOME": os.environ["HOME"]})
        process = FORKS.Process(target=small_command.run_in, args=arguments)
        process.start()
        process.join()
        if process.exitcode:
            output = Path("output").read_text(errors="replace").replace("\r", "\n")
            return f"{shlex.join(words)}\nexit code {process.exitcode}\n{output[-5000:]}"
    if not ran:
        pytest.skip("; ".join(reasons))
    return None


def run_python(example: Example) -> None:
    """Runs a block in the namespace of its page, with at most 10 images."""
    text = re.sub(r"\bcount=\d{2,}", "count=10", example.parsed)
    # With the lines of the page in tracebacks.
    exec(compile("\n" * example.line + text, example.path, "exec"), example.namespace)


@pytest.fixture(scope="session")
def files(tmp_path_factory) -> Path:
    """A folder with the files that pages expect."""
    os.environ.update(ENVIRONMENT)
    FORKS.set_forkserver_preload(PRELOADED)
    from docs import sample_files  # imports JAX

    folder = tmp_path_factory.mktemp("files")
    sample_files.write(folder)
    return folder


@pytest.fixture(scope="module")
def page_folder(files, tmp_path_factory) -> Iterator[Path]:
    """The folder in which a page runs."""
    folder = tmp_path_factory.mktemp("page")
    shutil.copytree(files, folder, dirs_exist_ok=True)
    with contextlib.chdir(folder), pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(folder))
        yield folder


pytest_collect_file = Sybil(
    [CodeBlockParser("bash", run_bash), CodeBlockParser("python", run_python), SkipParser()],
    path="/",
    pattern="*.md",
    fixtures=["page_folder"],
).pytest()
