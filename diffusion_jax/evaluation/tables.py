"""The results of a sweep as a table (CSV and Markdown) and as a plot."""

import csv
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

Row = dict[str, Any]


def write(folder: Path, rows: Sequence[Row], settings: Sequence[str], metric: str) -> list[Path]:
    """Writes table.csv, table.md and METRIC.png, and returns their paths.

    settings: the columns that describe how a row was made; all others are metrics. metric: the
    metric to plot against the column "checkpoint", one line for each combination of the other
    settings. Rows that differ only in "seed" are summarised below the table.
    """
    columns = list(settings) + [
        c for c in dict.fromkeys(k for r in rows for k in r) if c not in settings
    ]
    table = [[_shown(row.get(column, "")) for column in columns] for row in rows]
    with (folder / "table.csv").open("w", newline="") as file:
        csv.writer(file).writerows([columns, *([row.get(c, "") for c in columns] for row in rows)])
    lines = ["| " + " | ".join(cells) + " |" for cells in (columns, ["---"] * len(columns), *table)]
    lines += _over_seeds(rows, settings, metric)
    (folder / "table.md").write_text("\n".join(lines) + "\n")
    picture = folder / f"{metric}.png"
    _draw(picture, rows, settings, metric)
    return [folder / "table.csv", folder / "table.md", picture]


def _over_seeds(rows: Sequence[Row], settings: Sequence[str], metric: str) -> list[str]:
    groups = defaultdict(list)
    for row in rows:
        groups[tuple((c, row[c]) for c in settings if c != "seed")].append(row[metric])
    lines = []
    for group, values in groups.items():
        if len(values) > 1:
            named = ", ".join(f"{name} {_shown(value)}" for name, value in group)
            lines.append(
                f"{named}: {metric} of {len(values)} seeds: least {min(values):.4f}, mean "
                f"{np.mean(values):.4f}, standard deviation {np.std(values, ddof=1):.4f}"
            )
    return ["", *lines] if lines else []


def _shown(value: Any) -> str:
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def _draw(path: Path, rows: Sequence[Row], settings: Sequence[str], metric: str) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    lines = defaultdict(list)
    for row in rows:
        key = tuple((c, row[c]) for c in settings if c not in ("checkpoint", "seed"))
        lines[key].append((row["checkpoint"], row[metric]))
    varying = {c for c in settings if len({str(row[c]) for row in rows}) > 1}
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for key, points in lines.items():
        label = ", ".join(f"{name} {_shown(value)}" for name, value in key if name in varying)
        axes.plot(*zip(*sorted(points)), marker="o", label=label or metric)
    axes.set(xlabel="checkpoint (step)", ylabel=metric)
    axes.legend()
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)
    plt.close(figure)
