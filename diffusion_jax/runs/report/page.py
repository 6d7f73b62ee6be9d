"""The report of one run."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from diffusion_jax.evaluation.plots import shown
from diffusion_jax.pictures import curves as drawing
from diffusion_jax.pictures.curves import Curve
from diffusion_jax.pictures.html import (
    Html,
    document,
    element,
    facts,
    folded,
    joined,
    note,
    picture,
    section,
    slider,
    table,
)
from diffusion_jax.runs.report import commands, evaluations
from diffusion_jax.runs.report.data import DataReport
from diffusion_jax.runs.report.environment import Environment
from diffusion_jax.runs.report.evaluations import Evaluations
from diffusion_jax.runs.report.gather import MISSING, RunReport, Sample

# Curves that share a plot, by the first word of their names. Any other has a plot of its own.
LOSSES = ("loss", "simple", "vlb", "cross_entropy", "mse")
LOGARITHMIC = ("loss", "gradient_norm")  # groups whose plot may have such an axis


def page(report: RunReport, environment: Environment) -> Html:
    return document(
        f"Run {report.name}",
        headline(report),
        section("Config", *_config(report)),
        section("Data", *_data(report.data, report.classes)),
        section("Curves", *_curves(report)),
        section("Samples over training", *_samples(report)),
        section("Evaluations", *_evaluations(report.evaluations)),
        section("Environment", *environment_of(environment, report)),
        section("Commands", *_commands(report)),
        note(f"Written {environment.time:%Y-%m-%d %H:%M} UTC."),
    )


def headline(report: RunReport) -> Html:
    steps = report.fields.get("steps", "")
    share = f" ({report.steps_done / int(steps):.0%})" if steps.isdecimal() and int(steps) else ""
    loss = last_loss(report)
    pairs = [
        ("steps", f"{report.steps_done:,} of {_thousands(steps)}{share}"),
        ("parameters", report.parameters or "not recorded"),
        ("started", times(report)[0]),
        ("last metrics", times(report)[1]),
        ("last loss", loss),
        ("workdir", report.workdir),
    ]
    return facts(pairs)


def last_loss(report: RunReport) -> str:
    for curve in report.curves:
        if curve.name == "loss":
            return f"{curve.y[-1]:.5g} at step {curve.x[-1]:,.0f}"
    return "not recorded"


def times(report: RunReport) -> tuple[str, str]:
    """When the run was first started, and when it last wrote metrics."""
    first = report.starts[0].time if report.starts else None
    both = (first, report.last_written)
    first, last = (f"{time:%Y-%m-%d %H:%M} UTC" if time else "not recorded" for time in both)
    return first, last


def plots(curves: Sequence[Curve], group: str) -> Html:
    """One plot of these curves, with a legend above it."""
    logarithmic = group in LOGARITHMIC and drawing.spans_a_decade(curves)
    drawn = drawing.svg([drawing.thinned(c) for c in curves], group, logarithmic=logarithmic)
    return element("figure", element("figcaption", drawing.legend(curves)), drawn)


def group_of(name: str) -> str:
    return "loss" if name.startswith(LOSSES) else name


def thinning(curves: Sequence[Curve]) -> list[Html]:
    """Says so if a curve has more points than its plot."""
    longest = max((len(curve.x) for curve in curves), default=0)
    if longest <= drawing.MOST_POINTS:
        return []
    return [note(f"{longest:,} points are shown as {drawing.MOST_POINTS:,} means of neighbours.")]


def damaged(report: RunReport) -> list[Html]:
    lines = "1 line" if report.skipped == 1 else f"{report.skipped} lines"
    said = f"{report.name}: {lines} of metrics.jsonl cannot be read and are left out."
    return [note(said)] if report.skipped else []


def sample_figure(sample: Sample, caption: str, *, hidden: bool = False) -> Html:
    shot = sample.picture
    more = f" ({shot.change})" if shot.change else ""
    return picture(shot.uri, shot.width, shot.height, caption + more, hidden=hidden)


def name_of(sample: Sample) -> str:
    return sample.name if sample.step is None else f"step {sample.step:,}"


def environment_of(environment: Environment, *reports: RunReport) -> list[Html]:
    """The starts that workdirs record; all else is of the machine that writes the report."""
    parts = [
        note("Of the machine that wrote this report; a workdir does not record these:"),
        facts(environment.facts),
    ]
    rows = [
        (report.name, f"{start.time:%Y-%m-%d %H:%M:%S} UTC", start.host)
        for report in reports
        for start in report.starts
    ]
    if rows:
        parts.append(note("Recorded in the workdir, for each start of the training:"))
        parts.append(table(("run", "started", "host"), rows))
    return parts


def _curves(report: RunReport) -> list[Html]:
    if not report.curves:
        return [*damaged(report), note("There are no metrics yet.")]
    groups: dict[str, list[Curve]] = {}
    for curve in report.curves:
        groups.setdefault(group_of(curve.name), []).append(curve)
    names = sorted(groups, key=lambda name: name != "loss")
    drawn = element("div", *(plots(groups[name], name) for name in names), class_="plots")
    return [*damaged(report), drawn, *thinning(report.curves)]


def _samples(report: RunReport) -> list[Html]:
    samples, parts = report.samples, [note(line) for line in report.sample_notes]
    if not samples:
        return parts or [note("There are none yet.")]
    if len(samples) + len(report.sample_notes) < report.samples_there:
        parts.append(note(f"{len(samples)} of {report.samples_there} grids, evenly chosen."))
    last = len(samples) - 1
    figures = [
        sample_figure(sample, name_of(sample), hidden=place != last)
        for place, sample in enumerate(samples)
    ]
    return [*parts, slider(figures, "which of the sample grids")]


def _evaluations(found: Evaluations) -> list[Html]:
    parts = [note(line) for line in found.notes]
    if not (found.results or found.sweep or found.plots):
        return [*parts, note("There are none yet.")]
    if found.results:
        parts.append(results_table(found.results))
    if found.plots:
        figures = [picture(p.uri, p.width, p.height, name) for name, p in found.plots]
        parts.append(element("div", *figures, class_="plots"))
    if found.sweep:
        head, *rows = found.sweep
        seeds = [note(line) for line in found.over_seeds]
        parts.append(folded("The last sweep, table.csv", table(head, map(_short, rows)), *seeds))
    return parts


def results_table(
    results: Sequence[evaluations.Evaluation], runs: Sequence[str] | None = None
) -> Html:
    """runs: which each result is of, as a first column."""
    most = evaluations.MOST_ROWS
    head, rows = evaluations.as_table(results[:most])
    if runs is not None:
        head, rows = ["run", *head], [[run, *row] for run, row in zip(runs, rows)]
    left = note(f"The first {most} of {len(results)} results.") if len(results) > most else ""
    return joined([table(head, rows), left])


def _config(report: RunReport) -> list[Html]:
    whole = json.dumps(report.config.to_dict(), indent=2)
    other = any(field == "model.name" for field, *_ in report.changed)
    more = ", and of this network from its own defaults" if other else ""
    parts = [note(f"What differs from configs/base.py{more}:")]
    if report.changed:
        parts.append(table(("field", "base", "here"), report.changed))
    else:
        parts.append(note("Nothing."))
    return [*parts, folded("The whole config", element("pre", whole))]


def _data(data: DataReport, classes: Sequence[str]) -> list[Html]:
    parts: list[Html] = []
    if data.recorded:
        parts.append(facts(_flat(data.recorded)))
    else:
        parts.append(note("There is no readable dataset.json."))
    if classes:
        parts.append(folded(f"{len(classes):,} classes", element("p", ", ".join(classes))))
    if data.picture:
        shot = data.picture
        parts.append(picture(shot.uri, shot.width, shot.height, "training images"))
    return [*parts, note(data.note)] if data.note else parts


def _commands(report: RunReport) -> list[Html]:
    said = []
    for purpose, lines in commands.of_run(report).items():
        said += [element("p", purpose), element("pre", "\n".join(lines))]
    return said


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Names and values, those of sections with a dotted name; counts are easy to read."""
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
    """Numbers with as many digits as in the other table."""
    cells = []
    for cell in row:
        try:
            number = float(cell)
        except ValueError:
            cells.append(cell)
            continue
        cells.append(shown(number) if "." in cell and np.isfinite(number) else cell)
    return cells
