"""Evaluation results on disk: JSON files, named by a digest of the inputs and versions."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diffusion_jax.evaluation.features import VERSION
from diffusion_jax.files import json_files

METRIC_VERSIONS = "metric_versions"
REMEDY = "delete it to evaluate again"


def result_path(folder: Path, inputs: Mapping[str, Any]) -> Path:
    """Returns the file of the result that depends on `inputs`, which include the versions."""
    digest = hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()
    return folder / f"result-{digest[:12]}.json"


def read(path: Path) -> dict[str, Any]:
    """Reads a result. Raises ValueError, in one line that names the file, if it is damaged."""
    result = json_files.read_object(path, remedy=REMEDY)
    metrics = result.get("metrics")
    if not isinstance(metrics, dict) or not all(map(_is_number, metrics.values())):
        raise ValueError(f"{path} holds no metrics; {REMEDY}")
    for name in ("made", "features", METRIC_VERSIONS):
        if not isinstance(result.get(name), dict):
            raise ValueError(f"{path} has no object {name!r}; {REMEDY}")
    return result


def describe(result: Mapping[str, Any]) -> str:
    """Returns when and by which versions a result was computed."""
    made = result["made"]
    versions = dict(result[METRIC_VERSIONS])
    if VERSION in result["features"]:
        versions["features"] = result["features"][VERSION]
    packages = ", ".join(f"{name} {made.get(name)}" for name in ("diffusion-jax", "jax"))
    return (
        f"computed at {made.get('date')} by {packages} on {made.get('devices')} (versions: "
        f"{', '.join(f'{name} {version}' for name, version in versions.items())})"
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
