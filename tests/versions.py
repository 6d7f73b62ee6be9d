"""Runs the tests with the oldest or the newest packages that the requirements allow.

    python tests/versions.py oldest --python python3.11 [--folder FOLDER] [-- ARGUMENTS OF PYTEST]
    python tests/versions.py newest --python python3.13 [--folder FOLDER] [-- ARGUMENTS OF PYTEST]

The virtual environment in FOLDER is reused by the next call. pyproject.toml turns
DeprecationWarnings of this project's calls into errors. The exit code is pytest's.
"""

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NAMED = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "pillow", "matplotlib")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("which", choices=("oldest", "newest"))
    parser.add_argument("--python", default=sys.executable, help="the interpreter to test")
    parser.add_argument("--folder", type=Path, help="of the environment; a temporary one if none")
    words = sys.argv[1:]
    end = words.index("--") if "--" in words else len(words)
    chosen = parser.parse_args(words[:end])
    with tempfile.TemporaryDirectory() as temporary:
        folder = (chosen.folder or Path(temporary)).resolve()
        python = folder / "bin" / "python"
        if not python.exists():
            subprocess.run([chosen.python, "-m", "venv", folder], check=True)
        packages = ["-r", str(ROOT / "requirements-dev.txt")]
        if chosen.which == "oldest":
            packages += oldest((ROOT / "requirements.txt").read_text())
        pip = [python, "-m", "pip"]
        subprocess.run([*pip, "install", "--quiet", "--upgrade", *packages], check=True)
        listed = subprocess.run([*pip, "freeze"], check=True, capture_output=True, text=True)
        there = dict(line.split("==") for line in listed.stdout.split() if "==" in line)
        print(*(f"{name} {there.get(name, 'none')}" for name in NAMED), sep=", ", flush=True)
        command = [python, "-m", "pytest", *words[end + 1 :]]
        return subprocess.run(command, cwd=ROOT).returncode


def oldest(requirements: str) -> list[str]:
    """Pins the first version of each package that the requirements allow."""
    pattern = re.compile(r"^([A-Za-z0-9_-]+)[>=]=([0-9.]+)", re.M)
    return [f"{name}=={version}" for name, version in pattern.findall(requirements)]


if __name__ == "__main__":
    sys.exit(main())
