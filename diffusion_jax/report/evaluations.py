"""The evaluations in a workdir, as `scripts.fid evaluate` saves them."""

import csv
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffusion_jax.evaluation.sweep_plot import format_value
from diffusion_jax.files import json_files
from diffusion_jax.report.embedded_picture import EmbeddedPicture, embed_file

FOLDER = "evaluations"
MOST_ROWS = 300
# Settings that the table shows beside the metrics, and their places in a result.
SETTINGS = {
    "workdir": ("images", "workdir"),
    "checkpoint": ("images", "checkpoint"),
    "parameters": ("images", "parameters"),
    "labels": ("images", "labels"),
    "solver": ("images", "sampling", "solver"),
    "spacing": ("images", "sampling", "spacing"),
    "steps": ("images", "sampling", "steps"),
    "eta": ("images", "sampling", "eta"),
    "guidance": ("images", "sampling", "guidance"),
    "seed": ("images", "seed"),
    "images": ("num_samples",),
    "features": ("features", "features"),
    "reference": ("reference", "file"),
    "versions": ("metric_versions",),
}


@dataclass(frozen=True)
class Evaluation:
    """One result. settings: by the names of `SETTINGS`, without missing ones."""

    name: str
    metrics: Mapping[str, Any]
    settings: Mapping[str, Any]
    note: str = ""


@dataclass(frozen=True)
class Evaluations:
    """All results and plots.

    sweep: the rows of the last sweep's table, head first. over_seeds: the lines below that table.
    notes: files that are not shown.
    """

    results: Sequence[Evaluation] = ()
    sweep: Sequence[Sequence[str]] = ()
    over_seeds: Sequence[str] = ()
    plots: Sequence[tuple[str, EmbeddedPicture]] = ()
    notes: Sequence[str] = ()


def read(folder: Path, most_bytes: int) -> Evaluations:
    """Reads a folder of evaluations, which need not exist. most_bytes: of all plots together."""
    results, plots, notes = [], [], []
    for path in sorted(folder.glob("result-*.json")):
        try:
            results.append(_of_result(path.stem, json_files.read(path)))
        except (ValueError, OSError):
            notes.append(f"{path.name} cannot be read.")
    results.sort(key=_order)
    pictures = sorted(folder.glob("*.png"))
    for path in pictures:
        try:
            plots.append((path.name, embed_file(path, most_bytes // len(pictures))))
        except ValueError as error:
            notes.append(f"{error}.")
    others = [path.name for kind in ("*.pdf", "*.svg") for path in sorted(folder.glob(kind))]
    if others:
        notes.append(f"Plots in other formats, not shown: {', '.join(others)}.")
    sweep, over_seeds = _tables(folder)
    return Evaluations(results, sweep, over_seeds, plots, notes)


def as_table(results: Sequence[Evaluation]) -> tuple[list[str], list[list[str]]]:
    """Returns the head and the rows: the settings that vary, and the metrics."""
    metrics = list(dict.fromkeys(name for result in results for name in result.metrics))
    if any(result.note for result in results):
        metrics.append("note")
    same = in_common(results)
    varying = [n for n in SETTINGS if n not in same and any(n in r.settings for r in results)]
    rows = []
    for result in results:
        found = {**result.metrics, "note": result.note}
        own = [format_value(result.settings.get(name, "")) for name in varying]
        rows.append(own + [format_value(found.get(name, "")) for name in metrics])
    return [*varying, *metrics], rows


def in_common(results: Sequence[Evaluation]) -> dict[str, str]:
    """Returns the settings that all results share."""
    values = {name: {format_value(r.settings.get(name, "")) for r in results} for name in SETTINGS}
    return {name: found.pop() for name, found in values.items() if len(found) == 1 and any(found)}


def _of_result(name: str, result: Any) -> Evaluation:
    """Returns a result. Raises ValueError if it has no metrics."""
    if not isinstance(result, dict) or not isinstance(result.get("metrics"), dict):
        raise ValueError(f"{name} has no metrics")
    found = {key: _at(result, place) for key, place in SETTINGS.items()}
    if isinstance(found["versions"], dict):
        found["versions"] = ", ".join(f"{name} {n}" for name, n in found["versions"].items())
    settings = {key: value for key, value in found.items() if value != ""}
    return Evaluation(name, result["metrics"], settings, str(result.get("note", "")))


def _at(result: Any, place: Sequence[str]) -> Any:
    """Returns the value at a path of keys, or "" if there is none."""
    for key in place:
        result = result.get(key, "") if isinstance(result, dict) else ""
    return result


def _order(result: Evaluation) -> tuple:
    """Sorts by checkpoint, then by the other settings; numbers come before texts."""
    values = [result.settings.get("checkpoint", ""), *result.settings.values()]
    numbers = [(0, v, "") if isinstance(v, int | float) else (1, 0, str(v)) for v in values]
    return tuple(numbers)


def _tables(folder: Path) -> tuple[list[list[str]], list[str]]:
    """Returns the rows of table.csv, and the lines below the table in table.md."""
    try:
        with (folder / "table.csv").open(newline="", errors="replace") as file:
            rows = list(itertools.islice(csv.reader(file), MOST_ROWS + 1))
        lines = (folder / "table.md").read_text(errors="replace").splitlines()
    except (OSError, csv.Error):
        return [], []
    return rows, [line for line in lines if line and not line.startswith("|")]
