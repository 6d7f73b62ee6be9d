"""The page of one run."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from diffusion_jax.evaluation.sweep_plot import format_value
from diffusion_jax.report import sections
from diffusion_jax.report.config_fields import MISSING
from diffusion_jax.report.curve_plot import Curve
from diffusion_jax.report.environment import Environment
from diffusion_jax.report.evaluations import Evaluations
from diffusion_jax.report.html import (
    Html,
    document,
    element,
    facts,
    folded,
    note,
    section,
    slider,
    table,
)
from diffusion_jax.report.metric_curves import Metrics
from diffusion_jax.report.run_report import RunReport
from diffusion_jax.report.sample_grids import SampleGrids
from diffusion_jax.report.suggested_commands import commands_of
from diffusion_jax.report.training_data import TrainingData


def run_page(report: RunReport, environment: Environment) -> Html:
    """Returns the page of a run."""
    return document(
        f"Run {report.name}",
        _headline(report),
        section("Config", *_config(report)),
        section("Data", *_data(report.data, report.classes)),
        section("Curves", *sections.unreadable_notes(report), *_curves(report.metrics)),
        section("Samples over training", *_samples(report.samples)),
        section("Evaluations", *_evaluations(report.evaluations)),
        section("Environment", *sections.environment_section(environment, report)),
        section("Commands", *_commands(report)),
        note(f"Written {environment.time:%Y-%m-%d %H:%M} UTC."),
    )


def _headline(report: RunReport) -> Html:
    steps = report.fields.get("steps", "")
    share = f" ({report.steps_done / int(steps):.0%})" if steps.isdecimal() and int(steps) else ""
    started, written = sections.times(report)
    pairs = [
        ("steps", f"{report.steps_done:,} of {_thousands(steps)}{share}"),
        ("parameters", report.parameters or sections.UNKNOWN),
        ("started", started),
        ("last metrics", written),
        ("last loss", sections.last_loss(report)),
        ("workdir", report.workdir),
    ]
    return facts(pairs)


def _config(report: RunReport) -> list[Html]:
    whole = json.dumps(report.config.to_dict(), indent=2)
    other = any(field == "model.name" for field, *_ in report.changed)
    base = "configs/base.py" + (", and from this network's own defaults" if other else "")
    parts = [note(f"Fields that differ from {base}:")]
    if report.changed:
        parts.append(table(("field", "base", "here"), report.changed))
    else:
        parts.append(note("None."))
    return [*parts, folded("The whole config", element("pre", whole))]


def _data(data: TrainingData, classes: Sequence[str]) -> list[Html]:
    parts: list[Html] = []
    if data.record:
        parts.append(facts(_flat(data.record)))
    else:
        parts.append(note("There is no readable dataset.json."))
    if classes:
        parts.append(folded(f"{len(classes):,} classes", element("p", ", ".join(classes))))
    if data.picture:
        parts.append(sections.figure(data.picture, "training images"))
    return [*parts, note(data.note)] if data.note else parts


def _curves(metrics: Metrics) -> list[Html]:
    if not metrics.curves:
        return [note(sections.NO_METRICS)]
    groups: dict[str, list[Curve]] = {}
    for curve in metrics.curves:
        groups.setdefault(sections.group_of(curve.name), []).append(curve)
    names = sorted(groups, key=lambda name: name != "loss")
    plots = element("div", *(sections.plot(groups[name], name) for name in names), class_="plots")
    return [plots, *sections.thinning_notes(metrics.curves)]


def _samples(samples: SampleGrids) -> list[Html]:
    chosen, notes = samples.chosen, [note(line) for line in samples.notes]
    if not chosen:
        return notes or [note(sections.NONE_YET)]
    if len(chosen) + len(samples.notes) < samples.available:
        notes.append(note(f"{len(chosen)} of {samples.available} grids, evenly spaced."))
    last = len(chosen) - 1
    figures = [
        sections.figure(grid.picture, grid.name, hidden=number != last)
        for number, grid in enumerate(chosen)
    ]
    return [*notes, slider(figures, "sample grid")]


def _evaluations(found: Evaluations) -> list[Html]:
    parts = [note(line) for line in found.notes]
    if not (found.results or found.sweep or found.plots):
        return [*parts, note(sections.NONE_YET)]
    if found.results:
        parts.append(sections.results_table(found.results))
    if found.plots:
        figures = [sections.figure(plot, name) for name, plot in found.plots]
        parts.append(element("div", *figures, class_="plots"))
    if found.sweep:
        head, *rows = found.sweep
        notes = [note(line) for line in found.over_seeds]
        parts.append(folded("The last sweep, table.csv", table(head, map(_short, rows)), *notes))
    return parts


def _commands(report: RunReport) -> list[Html]:
    parts = []
    for purpose, lines in commands_of(report).items():
        parts += [element("p", purpose), *(element("pre", line) for line in lines)]
    return parts


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Returns names and values; nested names are dotted, and counts have separators."""
    pairs: list[tuple[str, Any]] = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            pairs += _flat(value, f"{prefix}{name}.")
        else:
            pairs.append((prefix + name, _thousands(str(value)) if name == "count" else value))
    return pairs


def _thousands(text: str) -> str:
    return f"{int(text):,}" if text.isdecimal() else text or MISSING


def _short(row: Sequence[str]) -> list[str]:
    """Shortens fractions as `format_value` does."""
    cells = []
    for cell in row:
        try:
            number = float(cell)
        except ValueError:
            cells.append(cell)
            continue
        cells.append(format_value(number) if "." in cell and np.isfinite(number) else cell)
    return cells
