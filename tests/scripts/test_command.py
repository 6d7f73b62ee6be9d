"""The command of an installed package, its version, and the files that are installed."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import diffusion_jax
from diffusion_jax import command
from diffusion_jax.config import named_configs

ROOT = Path(__file__).parents[2]


def run(*arguments, folder=ROOT):
    """Runs the command in a process of its own."""
    words = [sys.executable, "-m", "diffusion_jax.command", *arguments]
    return subprocess.run(words, cwd=folder, capture_output=True, text=True)


@pytest.mark.parametrize("name", ["sample", "data"])
def test_a_command_runs_its_script_with_the_other_arguments(name, monkeypatch):
    ran = []
    monkeypatch.setattr(command.runpy, "run_module", lambda name, **how: ran.append((name, how)))
    monkeypatch.setattr(command.sys, "path", list(command.sys.path))
    monkeypatch.setattr(command.sys, "argv", ["diffusion-jax", name, "--workdir", "x"])
    command.main()
    assert ran == [(f"scripts.{name}", {"run_name": "__main__", "alter_sys": True})]
    assert command.sys.argv == [f"diffusion-jax {name}", "--workdir", "x"]
    assert command.sys.path[0] == str(named_configs.ROOT)


def test_every_script_is_a_command():
    scripts = {path.stem for path in (ROOT / "scripts").glob("*.py")} - {"__init__"}
    assert set(command.COMMANDS) == scripts


def test_an_unknown_command_gets_one_line_with_a_guess():
    done = run("sampel")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "did you mean sample?" in done.stderr


def test_help_lists_the_commands():
    done = run("--help")
    assert done.returncode == 0
    assert all(f"\n  {name} " in done.stdout for name in command.COMMANDS)


def test_the_version_is_the_same_everywhere():
    """Also in a checkout that is not installed."""
    assert re.fullmatch(r"\d+\.\d+\.\d+", diffusion_jax.__version__)
    assert run("--version").stdout == f"diffusion-jax {diffusion_jax.__version__}\n"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {
        "attr": "diffusion_jax.__version__"
    }


def test_everything_is_packaged():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = {
        str(path.parent.relative_to(ROOT)).replace("/", ".")
        for path in (ROOT / "diffusion_jax").rglob("__init__.py")
    }
    bundled = {f"diffusion_jax.bundled.{name}" for name in ("configs", "scripts", "scripts.cli")}
    assert set(project["tool"]["setuptools"]["packages"]) == packages | bundled
    of_data = project["tool"]["setuptools"]["package-data"]
    covered = [
        path
        for package, patterns in of_data.items()
        if "bundled" not in package
        for pattern in patterns
        for path in (ROOT / package.replace(".", "/")).glob(pattern)
    ]
    files = [p for p in (ROOT / "diffusion_jax").rglob("*") if p.is_file()]
    others = {p for p in files if p.suffix not in (".py", ".pyc")}
    assert others <= set(covered)
