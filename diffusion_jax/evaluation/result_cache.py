"""Results of evaluations on disk: JSON files, named by a digest of what their numbers depend on."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diffusion_jax.evaluation.features import VERSION
from diffusion_jax.files import json_files

METRIC_VERSIONS = "metric_versions"
REMEDY = "delete it to evaluate again"


def path_of(folder: Path, known: Mapping[str, Any]) -> Path:
    """The file of the result that depends on `known`, versions and all."""
    return folder / f"result-{_digest(known)}.json"


def read(path: Path) -> dict[str, Any]:
    """A result. Raises ValueError, in one line that names the file, if it is damaged."""
    result = json_files.read_object(path, remedy=REMEDY)
    metrics = result.get("metrics")
    if not isinstance(metrics, dict) or not all(map(_is_number, metrics.values())):
        raise ValueError(f"{path} holds no metrics; {REMEDY}")
    return result


def described(result: Mapping[str, Any]) -> str:
    """When and by what a result was computed."""
    made = result.get("made")
    made = made if isinstance(made, dict) else {}
    by = ", ".join(f"{name} {made[name]}" for name in ("diffusion-jax", "jax") if name in made)
    versions = ", ".join(f"{name} {number}" for name, number in _versions(result).items())
    return (
        f"computed at {made.get('date', 'an unknown time')} by {by or 'an unknown version'} on "
        f"{made.get('devices', 'an unknown device')} (versions: {versions or 'none'})"
    )


def older(folder: Path, known: Mapping[str, Any]) -> list[str]:
    """A line on each result that differs from `known` in its versions alone."""
    wanted, own = _without_versions(json.loads(json.dumps(dict(known)))), path_of(folder, known)
    lines = []
    for path in sorted(folder.glob("result-*.json")):
        try:
            result = read(path)
        except (ValueError, OSError):  # damaged, and of whom it is cannot be said
            continue
        if path == own or _without_versions({name: result.get(name) for name in known}) != wanted:
            continue
        before, now = _versions(result), _versions(known)
        changed = [f"{n} {before.get(n, '?')} -> {now[n]}" for n in now if before.get(n) != now[n]]
        lines.append(
            f"{path} is of an older version ({', '.join(changed)}): it is kept, and computed anew "
            f"as {own.name}"
        )
    return lines


def _versions(result: Mapping[str, Any]) -> dict[str, Any]:
    """The version of the features and of each metric, as far as a result has them."""
    features, metrics = result.get("features"), result.get(METRIC_VERSIONS)
    found = dict(metrics) if isinstance(metrics, dict) else {}
    if isinstance(features, dict) and VERSION in features:
        found["features"] = features[VERSION]
    return found


def _without_versions(known: dict[str, Any]) -> dict[str, Any]:
    """What a result depends on, but for versions; of the reference, its file alone."""
    plain = {name: value for name, value in known.items() if name != METRIC_VERSIONS}
    if isinstance(plain.get("features"), dict):
        plain["features"] = {n: v for n, v in plain["features"].items() if n != VERSION}
    if isinstance(plain.get("reference"), dict):
        plain["reference"] = [plain["reference"].get(name) for name in ("file", "sha256")]
    return plain


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _digest(known: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:12]
