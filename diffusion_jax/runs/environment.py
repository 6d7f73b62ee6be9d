"""Where a run was trained: versions, devices and host of each start, kept in the workdir."""

import json
import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import jax

from diffusion_jax.files import atomic, json_object

FILE = "environment.json"
PACKAGES = ("diffusion-jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint")

Facts = Mapping[str, str]


def here() -> Facts:
    """Of this process and all devices, by name."""
    kinds = Counter(device.device_kind for device in jax.devices())
    devices = ", ".join(f"{count} x {kind}" for kind, count in kinds.items())
    versions = {name: _version(name) for name in PACKAGES}
    return {
        "Python": platform.python_version(),
        **versions,
        "devices": devices,
        "processes": str(jax.process_count()),
        "host": platform.node(),
    }


def record(workdir: Path, step: int) -> None:
    """Adds this start, which goes on from `step`, to the workdir's list of them."""
    now = {"step": str(step), "started": f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"}
    starts = [*recorded(workdir), now | dict(here())]
    atomic.write_text(workdir / FILE, json.dumps(starts, indent=2) + "\n")


def recorded(workdir: Path) -> Sequence[Facts]:
    """The starts that a workdir records, oldest first; none if it is older, or damaged."""
    try:
        starts = json_object.any_of(workdir / FILE)
    except (OSError, ValueError):
        return []
    if not isinstance(starts, list) or not all(isinstance(start, dict) for start in starts):
        return []
    return [{str(name): str(value) for name, value in start.items()} for start in starts]


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
