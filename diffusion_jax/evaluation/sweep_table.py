"""Tables (CSV and Markdown) of a sweep, with its plot."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from diffusion_jax.evaluation import sweep_plot
from diffusion_jax.evaluation.sweep_plot import Row, format_value


def write(
    folder: Path,
    rows: Sequence[Row],
    settings: Sequence[str],
    metric: str,
    *,
    picture: Path | None = None,
    x: str | None = None,
) -> list[Path]:
    """Writes table.csv, table.md and the picture, and returns their paths.

    Rows that differ only in "seed" are summarized below the table.

    Args:
        settings: columns that are settings; the others are metrics.
        metric, x: of the plot, see `sweep_plot.figure`.
        picture: None is METRIC.png in the folder.
    """
    columns = list(settings) + [
        c for c in dict.fromkeys(k for r in rows for k in r) if c not in settings
    ]
    table = [[format_value(row.get(column, "")) for column in columns] for row in rows]
    with (folder / "table.csv").open("w", newline="") as file:
        csv.writer(file).writerows([columns, *([row.get(c, "") for c in columns] for row in rows)])
    lines = ["| " + " | ".join(cells) + " |" for cells in (columns, ["---"] * len(columns), *table)]
    lines += _over_seeds(rows, settings, metric)
    (folder / "table.md").write_text("\n".join(lines) + "\n")
    picture = picture or folder / f"{metric}.png"
    picture.parent.mkdir(parents=True, exist_ok=True)
    sweep_plot.figure(rows, settings, metric, x).savefig(picture, dpi=100)
    return [folder / "table.csv", folder / "table.md", picture]


def _over_seeds(rows: Sequence[Row], settings: Sequence[str], metric: str) -> list[str]:
    """Returns the lines with mean and deviation of rows that differ only in the seed."""
    lines = []
    for point, values in sweep_plot.over_seeds(rows, settings, metric):
        if len(values) > 1:
            named = [
                f"{name} {format_value(value)}" for name, value in point.items() if value != ""
            ]
            lines.append(
                f"{', '.join(named)}: {metric} of {len(values)} seeds: least {min(values):.4f}, "
                f"mean {np.mean(values):.4f}, standard deviation {np.std(values, ddof=1):.4f}"
            )
    return ["", *lines] if lines else []
