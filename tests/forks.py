"""Runs of a script with many different arguments, each in a fork of one process.

The process has imported the slow modules, so a run takes a tenth of the time of a command.
"""

import importlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent


def run_each(script, cases, *, environment=None):
    """Runs `python -m scripts.SCRIPT` with each list of arguments.

    Returns one subprocess.CompletedProcess for each, with its exit code, output and errors.
    environment: variables added to those of this process.
    """
    done = subprocess.run(
        [sys.executable, __file__, script],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | (environment or {}),
        input=json.dumps([[str(argument) for argument in case] for case in cases]),
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)
    assert len(results) == len(cases)
    return [subprocess.CompletedProcess(case, *result) for case, result in zip(cases, results)]


def _serve(script):
    """Reads the cases from stdin, and writes [exit code, output, errors] of each."""
    from scripts.cli import app

    module = importlib.import_module(f"scripts.{script}")
    for name in ("evaluate", "sweep", "sample_folder", "edit_folder", "train"):
        importlib.import_module(f"diffusion_jax.runs.{name}")
    results = []
    for arguments in json.load(sys.stdin):
        with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
            child = os.fork()
            if child == 0:
                os.dup2(output.fileno(), 1)
                os.dup2(errors.fileno(), 2)
                sys.argv = [module.__file__, *arguments]
                _finish(lambda: app.run(module.main, getattr(module, "COMMANDS", None)))
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            for file in (output, errors):
                file.seek(0)
            results.append([status, output.read().decode(), errors.read().decode()])
    json.dump(results, sys.stdout)


def _finish(run):
    """Runs a function and ends the process, which is a fork."""
    code = 1
    try:
        run()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else bool(end.code)
    except BaseException:
        import traceback

        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(int(code))


if __name__ == "__main__":
    _serve(sys.argv[1])
