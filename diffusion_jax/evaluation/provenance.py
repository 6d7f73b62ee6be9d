"""Where and when numbers were computed: versions, devices and the time; and remarks on it."""

import sys
from collections import Counter
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version

import jax


def made_here() -> dict[str, str]:
    """Of this process: package, JAX, devices of all processes, and the time (UTC, ISO 8601)."""
    return {
        "diffusion-jax": version_of("diffusion-jax"),
        "jax": version_of("jax"),
        "devices": devices(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def tell(line: str) -> None:
    """Writes a remark where progress goes, so that results can be read by a program."""
    print(line, file=sys.stderr)


def devices() -> str:
    """The kinds of all devices and how many there are of each, such as "8 x NVIDIA H100"."""
    kinds = Counter(device.device_kind for device in jax.devices())
    return ", ".join(f"{count} x {kind}" for kind, count in kinds.items())


def version_of(package: str) -> str:
    """The version of an installed package; "not installed" if it is not."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
