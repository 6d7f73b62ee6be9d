"""The metrics of a run as curves over the step."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from diffusion_jax.report.curve_plot import Curve
from diffusion_jax.training.logging import METRICS_FILE, read_metrics


@dataclass(frozen=True)
class Metrics:
    """The contents of metrics.jsonl.

    last_step: 0 without metrics. unreadable: the number of lines that cannot be read. written:
    the time of the last change; None if there is no file.
    """

    curves: Sequence[Curve]
    last_step: int
    unreadable: int
    written: datetime | None


def read(workdir: Path) -> Metrics:
    """Reads the metrics of a workdir; lines that cannot be read are counted."""
    lines = [line for line in read_metrics(workdir) if _is_step(line.get("step"))]
    lines.sort(key=lambda line: line["step"])
    path, count, written = workdir / METRICS_FILE, 0, None
    if path.is_file():
        count = sum(bool(line.strip()) for line in path.read_text(errors="replace").splitlines())
        written = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    last_step = lines[-1]["step"] if lines else 0
    return Metrics(_curves(lines), last_step, count - len(lines), written)


def _curves(lines: Sequence[Mapping[str, Any]]) -> list[Curve]:
    """Returns a curve for each name that has a number in some line."""
    names = dict.fromkeys(name for line in lines for name in line if name != "step")
    steps = np.array([line["step"] for line in lines], float)
    curves = []
    for name in names:
        values = np.array([_number(line.get(name)) for line in lines], float)
        present = np.array([_is_number(line.get(name)) for line in lines])
        if present.any():
            curves.append(Curve(name, steps[present], values[present]))
    return curves


def _is_step(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**15


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _number(value: Any) -> float:
    """Returns the value as a float; NaN for other types and for values too large to plot."""
    return float(value) if _is_number(value) and abs(value) < 1e100 else np.nan
