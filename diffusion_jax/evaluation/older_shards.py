"""Folders of feature shards that older versions left, which are not used and not deleted."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from diffusion_jax.evaluation import features, moments
from diffusion_jax.evaluation.feature_shards import shard_folder

VERSIONED = (features.VERSION, moments.NAME)  # the entries of settings that are versions


def say(parent: Path, settings: dict[str, Any], tell: Callable[[str], Any]) -> None:
    """Tells a line on each folder of `find`."""
    for folder in find(parent, settings):
        tell(
            f"{folder} has features of an older version: they are computed anew in another folder, "
            "and this one can be deleted"
        )


def find(parent: Path, settings: dict[str, Any]) -> list[Path]:
    """The folders in `parent` with these settings, but of lower versions or of none.

    settings: those of `shards.shard_folder`; versions are in them, or in their "features".
    """
    inner = settings.get("features")
    flat = settings | (inner if isinstance(inner, dict) else {})
    present = {name: flat[name] for name in VERSIONED if name in flat}
    ranges = [[None, *range(1, version + 1)] for version in present.values()]
    others = [_with(settings, dict(zip(present, chosen))) for chosen in itertools.product(*ranges)]
    folders = [shard_folder(parent, other) for other in others if other != settings]
    return [folder for folder in folders if folder.is_dir()]


def _with(settings: dict[str, Any], versions: dict[str, int | None]) -> dict[str, Any]:
    """The settings with these versions in place of theirs, and without those that are None."""
    changed = {}
    for name, value in settings.items():
        if name == "features" and isinstance(value, dict):
            value = _with(value, versions)
        value = versions.get(name, value)
        if value is not None or name not in versions:
            changed[name] = value
    return changed
