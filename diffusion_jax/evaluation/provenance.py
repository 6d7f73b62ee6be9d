"""Provenance of computed numbers: package versions, devices and time."""

import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import jax

import diffusion_jax

PACKAGE = "diffusion-jax"
CHECKOUT = Path(__file__).resolve().parents[2]


def current() -> dict[str, str]:
    """Returns package and JAX versions, devices of all processes, and time (UTC, ISO 8601)."""
    return {
        PACKAGE: version_of(PACKAGE),
        "jax": version_of("jax"),
        "devices": devices(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def log(line: str) -> None:
    """Prints a line to stderr, as progress is, so that stdout holds results alone."""
    print(line, file=sys.stderr)


def devices() -> str:
    """Returns the kinds of all devices with their numbers, such as "8 x NVIDIA H100"."""
    kinds = Counter(device.device_kind for device in jax.devices())
    return ", ".join(f"{count} x {kind}" for kind, count in kinds.items())


def version_of(package: str) -> str:
    """Returns the version of a package, or "not installed".

    Of this package, the version of the code that runs, with the commit of a checkout.
    """
    if package == PACKAGE:
        return ", ".join(filter(None, [diffusion_jax.__version__, commit(CHECKOUT)]))
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


@cache
def commit(folder: Path) -> str:
    """Returns the commit of a Git checkout, as "commit 0123456789ab"; "" if there is none.

    "with changes" is added if files that Git tracks have changed since.
    """
    if not (folder / ".git").exists():  # a folder above may be a checkout of something else
        return ""

    def git(*words: str) -> str:
        command = ["git", "-C", str(folder), *words]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=20, check=True
        ).stdout.strip()

    try:
        found = git("rev-parse", "--short=12", "HEAD")
        changed = git("status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):  # no Git, or a checkout that it does not trust
        return ""
    return f"commit {found}" + (" with changes" if changed else "")
