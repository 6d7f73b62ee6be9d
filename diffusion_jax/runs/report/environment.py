"""The machine that writes a report."""

import platform
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version

import jax

PACKAGES = ("jax", "jaxlib", "flax", "optax")


@dataclass(frozen=True)
class Environment:
    """facts: names and values. time: now."""

    facts: Sequence[tuple[str, str]]
    time: datetime


def here() -> Environment:
    kinds = Counter(device.device_kind for device in jax.devices())
    devices = ", ".join(f"{count} x {kind}" for kind, count in kinds.items())
    facts = [("Python", platform.python_version()), *((name, _version(name)) for name in PACKAGES)]
    return Environment([*facts, ("devices", devices), ("host", platform.node())], datetime.now(UTC))


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
