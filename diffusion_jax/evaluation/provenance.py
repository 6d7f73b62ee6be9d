"""Provenance of computed numbers: package versions, devices and time."""

import sys
from collections import Counter
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version

import jax


def current() -> dict[str, str]:
    """Returns package and JAX versions, devices of all processes, and time (UTC, ISO 8601)."""
    return {
        "diffusion-jax": version_of("diffusion-jax"),
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
    """Returns the version of an installed package, or "not installed"."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
