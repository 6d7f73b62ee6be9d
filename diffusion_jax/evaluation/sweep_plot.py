"""A sweep as a picture: a metric against the setting that varies."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

from diffusion_jax.files import write_access

Row = dict[str, Any]
# What rows that differ only in "seed" have in common, and their values of the metric.
Point = tuple[Row, list[float]]

# What the x axis can show. Unless one is chosen, it is the first that varies along a line, that is,
# between rows which agree in all other settings.
AXES = {
    "checkpoint": "checkpoint (step)",
    "evaluations": "network evaluations per image",
    "guidance": "guidance",
    "eta": "eta",
    "options": "options",
    "spacing": "spacing",
    "solver": "solver",
    "workdir": "workdir",
    "steps": "sampling steps",
    "stride": "stride",
}
# From this ratio of the largest to the smallest number of evaluations on, their axis is
# logarithmic: about a decade, which 10 to 99 are, too (50 steps of Heun's method).
LOGARITHMIC_FROM = 8
SUFFIXES = (".png", ".pdf", ".svg")


def check(x: str | None, picture: Path | None) -> None:
    """Raises ValueError for an unknown axis, and for a picture of an unknown kind or place.

    None stands for the default.
    """
    if x is not None and x not in AXES:
        raise ValueError(f"--x={x} must be one of {', '.join(AXES)}")
    if picture is not None and picture.suffix not in SUFFIXES:
        raise ValueError(f"--plot={picture} must end in one of {', '.join(SUFFIXES)}")
    if picture is not None:
        write_access.check(picture, "--plot")


def over_seeds(rows: Sequence[Row], settings: Sequence[str], metric: str) -> list[Point]:
    """One point for all rows that differ only in "seed"."""
    groups = defaultdict(list)
    for row in rows:
        groups[tuple((c, row[c]) for c in settings if c != "seed")].append(row[metric])
    return [(dict(group), values) for group, values in groups.items()]


def figure(
    rows: Sequence[Row], settings: Sequence[str], metric: str, x: str | None = None
) -> Figure:
    """The metric against x, one line for each combination of the other settings that vary.

    Rows that differ only in "seed" are one point: their mean, with their standard deviation as its
    error bar. settings: the columns that describe how a row was made. x: one of `AXES`; None is the
    first that varies. Settings that are not numbers are shown side by side, without lines.
    """
    points = over_seeds(rows, settings, metric)
    x = x or _varying(points)
    drawn = Figure(figsize=(7, 4), layout="constrained")
    axes = drawn.subplots()
    values = list(dict.fromkeys(point[x] for point, _ in points))
    numeric = all(isinstance(value, int | float) for value in values)
    if not numeric:
        places = {value: place for place, value in enumerate(values)}
        axes.set_xticks(range(len(values)), [shown(value) or "none" for value in values])
        axes.margins(x=0.2)
    seeds = max(len(found) for _, found in points)
    for label, line in _lines(points, x):
        line = sorted((point[x] if numeric else places[point[x]], found) for point, found in line)
        axes.errorbar(
            [place for place, _ in line],
            [np.mean(found) for _, found in line],
            yerr=[np.std(found, ddof=1) for _, found in line] if seeds > 1 else None,
            fmt="o-" if numeric else "o",
            capsize=3,
            label=label or metric,
        )
    if x == "evaluations" and max(values) >= LOGARITHMIC_FROM * min(values):
        _logarithmic(axes)
    of_seeds = f" (mean and standard deviation of {seeds} seeds)" if seeds > 1 else ""
    axes.set(xlabel=AXES[x], ylabel=metric + of_seeds)
    axes.legend()
    axes.grid(alpha=0.3)
    return drawn


def shown(value: Any) -> str:
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def _varying(points: Sequence[Point]) -> str:
    """The first of `AXES` that varies along a line, or else the checkpoint."""
    for x in AXES:
        if x in points[0][0]:
            for _, line in _lines(points, x):
                if len({point[x] for point, _ in line}) > 1:
                    return x
    return "checkpoint"


def _lines(points: Sequence[Point], x: str) -> list[tuple[str, list[Point]]]:
    """The points that agree in all settings but x, with what tells them from the other lines."""
    kept = [name for name in points[0][0] if name not in _shown_by(points, x)]
    lines = defaultdict(list)
    for point, found in points:
        lines[tuple(point[name] for name in kept)].append((point, found))
    named = []
    for name, column in zip(kept, zip(*lines)):
        # Empty is what a setting is where it does not apply, or options that are the defaults.
        if len(set(column) - ({""} if name != "options" else set())) > 1:
            named.append(name)
    labels = []
    for line in lines.values():
        point, _ = line[0]
        parts = [f"{name} {shown(point[name])}" for name in named if point[name] != ""]
        labels.append(", ".join(parts))
    return list(zip(labels, lines.values()))


def _shown_by(points: Sequence[Point], x: str) -> set[str]:
    """The settings that need no line of their own: x, and what it stands for or decides."""
    hidden = {x, "evaluations"}  # which follow from the others
    if x == "evaluations":
        hidden |= {"steps", "stride"}
    if x == "solver":
        for own in {"eta", "options"} & points[0][0].keys():
            pairs = {(point["solver"], point[own]) for point, _ in points}
            if len(pairs) == len({solver for solver, _ in pairs}):
                hidden.add(own)
    return hidden


def _logarithmic(axes: Axes) -> None:
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:.0f}"))
    axes.xaxis.set_minor_locator(NullLocator())
