"""Versions, devices and host of each start of a run, kept in environment.json."""

import json
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import jax

from diffusion_jax.evaluation import provenance
from diffusion_jax.files import atomic, json_files

FILE = "environment.json"
PACKAGES = ("diffusion-jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint")

Facts = Mapping[str, str]


def here() -> Facts:
    """Returns the facts of this process and all devices, by name."""
    versions = {name: provenance.version_of(name) for name in PACKAGES}
    return {
        "Python": platform.python_version(),
        **versions,
        "devices": provenance.devices(),
        "processes": str(jax.process_count()),
        "host": platform.node(),
    }


def record(workdir: Path, step: int) -> None:
    """Appends this start, which resumes from `step`, to the list in the workdir."""
    now = {"step": str(step), "started": f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"}
    starts = [*recorded(workdir), now | dict(here())]
    atomic.write_text(workdir / FILE, json.dumps(starts, indent=2) + "\n")


def recorded(workdir: Path) -> Sequence[Facts]:
    """Reads the recorded starts, oldest first; none if the file is missing or damaged."""
    try:
        starts = json_files.read(workdir / FILE)
    except (OSError, ValueError):
        return []
    if not isinstance(starts, list) or not all(isinstance(start, dict) for start in starts):
        return []
    return [{str(name): str(value) for name, value in start.items()} for start in starts]
