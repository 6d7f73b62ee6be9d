"""Plot of a sweep: a metric against the setting that varies."""

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
# Settings except the seed, and the metric for each seed.
Point = tuple[Row, list[float]]

# Choices of the x axis with their labels. The default is the first that varies along a line, which
# means between rows that agree in all other settings.
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
# Ratio of the largest to the smallest number of evaluations at which their axis becomes
# logarithmic: about a decade, which includes 10 to 99 (50 steps of Heun's method).
LOGARITHMIC_FROM = 8
SUFFIXES = (".png", ".pdf", ".svg")


def check(x: str | None, picture: Path | None) -> None:
    """Raises ValueError for an unknown axis, or a picture that cannot be written.

    None is the default of each.
    """
    if x is not None and x not in AXES:
        raise ValueError(f"--x={x} must be one of {', '.join(AXES)}")
    if picture is not None and picture.suffix not in SUFFIXES:
        raise ValueError(f"--plot={picture} must end in one of {', '.join(SUFFIXES)}")
    if picture is not None:
        write_access.check(picture, "--plot")


def over_seeds(rows: Sequence[Row], settings: Sequence[str], metric: str) -> list[Point]:
    """Groups rows that differ only in "seed" into points."""
    groups = defaultdict(list)
    for row in rows:
        groups[tuple((c, row[c]) for c in settings if c != "seed")].append(row[metric])
    return [(dict(group), values) for group, values in groups.items()]


def figure(
    rows: Sequence[Row], settings: Sequence[str], metric: str, x: str | None = None
) -> Figure:
    """Plots the metric against x, with one line for each combination of the other settings.

    Rows that differ only in "seed" are one point: their mean, with the standard deviation as error
    bar. Settings that are not numbers are side by side, without lines.

    Args:
        settings: columns that are settings; the others are metrics.
        x: one of `AXES`; None is the first that varies.
    """
    points = over_seeds(rows, settings, metric)
    x = x or _varying(points)
    plot = Figure(figsize=(7, 4), layout="constrained")
    axes = plot.subplots()
    values = list(dict.fromkeys(point[x] for point, _ in points))
    numeric = all(isinstance(value, int | float) for value in values)
    if not numeric:
        places = {value: place for place, value in enumerate(values)}
        axes.set_xticks(range(len(values)), [format_value(value) or "none" for value in values])
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
    return plot


def format_value(value: Any) -> str:
    """Returns a value as text, numbers with five digits."""
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def _varying(points: Sequence[Point]) -> str:
    """Returns the first of `AXES` that varies along a line, or "checkpoint"."""
    for x in AXES:
        if x in points[0][0]:
            for _, line in _lines(points, x):
                if len({point[x] for point, _ in line}) > 1:
                    return x
    return "checkpoint"


def _lines(points: Sequence[Point], x: str) -> list[tuple[str, list[Point]]]:
    """Groups points that agree in all settings but x, each group with its label."""
    kept = [name for name in points[0][0] if name not in _implied_by(points, x)]
    lines = defaultdict(list)
    for point, found in points:
        lines[tuple(point[name] for name in kept)].append((point, found))
    named = []
    for name, column in zip(kept, zip(*lines)):
        # A setting that does not apply is "", and so are options that are all defaults.
        if len(set(column) - ({""} if name != "options" else set())) > 1:
            named.append(name)
    labels = []
    for line in lines.values():
        point, _ = line[0]
        parts = [f"{name} {format_value(point[name])}" for name in named if point[name] != ""]
        labels.append(", ".join(parts))
    return list(zip(labels, lines.values()))


def _implied_by(points: Sequence[Point], x: str) -> set[str]:
    """Returns x and the settings that x determines, which split no lines."""
    hidden = {x, "evaluations"}  # evaluations follow from the other settings
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
