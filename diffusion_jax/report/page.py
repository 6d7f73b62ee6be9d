"""The report of one run."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from diffusion_jax.evaluation.sweep_plot import shown
from diffusion_jax.report import commands, parts
from diffusion_jax.report.curves import Curve
from diffusion_jax.report.data import DataReport
from diffusion_jax.report.environment import Environment
from diffusion_jax.report.evaluations import Evaluations
from diffusion_jax.report.gather import MISSING, RunReport
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


def page(report: RunReport, environment: Environment) -> Html:
    return document(
        f"Run {report.name}",
        headline(report),
        section("Config", *_config(report)),
        section("Data", *_data(report.data, report.classes)),
        section("Curves", *_curves(report)),
        section("Samples over training", *_samples(report)),
        section("Evaluations", *_evaluations(report.evaluations)),
        section("Environment", *parts.environment_of(environment, report)),
        section("Commands", *_commands(report)),
        note(f"Written {environment.time:%Y-%m-%d %H:%M} UTC."),
    )


def headline(report: RunReport) -> Html:
    steps = report.fields.get("steps", "")
    share = f" ({report.steps_done / int(steps):.0%})" if steps.isdecimal() and int(steps) else ""
    loss = parts.last_loss(report)
    pairs = [
        ("steps", f"{report.steps_done:,} of {_thousands(steps)}{share}"),
        ("parameters", report.parameters or "not recorded"),
        ("started", parts.times(report)[0]),
        ("last metrics", parts.times(report)[1]),
        ("last loss", loss),
        ("workdir", report.workdir),
    ]
    return facts(pairs)


def _curves(report: RunReport) -> list[Html]:
    if not report.curves:
        return [*parts.damaged(report), note("There are no metrics yet.")]
    groups: dict[str, list[Curve]] = {}
    for curve in report.curves:
        groups.setdefault(parts.group_of(curve.name), []).append(curve)
    names = sorted(groups, key=lambda name: name != "loss")
    drawn = element("div", *(parts.plot(groups[name], name) for name in names), class_="plots")
    return [*parts.damaged(report), drawn, *parts.thinning(report.curves)]


def _samples(report: RunReport) -> list[Html]:
    samples, said = report.samples, [note(line) for line in report.sample_notes]
    if not samples:
        return said or [note("There are none yet.")]
    if len(samples) + len(report.sample_notes) < report.samples_there:
        said.append(note(f"{len(samples)} of {report.samples_there} grids, evenly chosen."))
    last = len(samples) - 1
    figures = [
        parts.figure(sample.picture, parts.name_of(sample), hidden=place != last)
        for place, sample in enumerate(samples)
    ]
    return [*said, slider(figures, "which of the sample grids")]


def _evaluations(found: Evaluations) -> list[Html]:
    said = [note(line) for line in found.notes]
    if not (found.results or found.sweep or found.plots):
        return [*said, note("There are none yet.")]
    if found.results:
        said.append(parts.results_table(found.results))
    if found.plots:
        figures = [parts.figure(plot, name) for name, plot in found.plots]
        said.append(element("div", *figures, class_="plots"))
    if found.sweep:
        head, *rows = found.sweep
        seeds = [note(line) for line in found.over_seeds]
        said.append(folded("The last sweep, table.csv", table(head, map(_short, rows)), *seeds))
    return said


def _config(report: RunReport) -> list[Html]:
    whole = json.dumps(report.config.to_dict(), indent=2)
    other = any(field == "model.name" for field, *_ in report.changed)
    more = ", and of this network from its own defaults" if other else ""
    said = [note(f"What differs from configs/base.py{more}:")]
    if report.changed:
        said.append(table(("field", "base", "here"), report.changed))
    else:
        said.append(note("Nothing."))
    return [*said, folded("The whole config", element("pre", whole))]


def _data(data: DataReport, classes: Sequence[str]) -> list[Html]:
    said: list[Html] = []
    if data.recorded:
        said.append(facts(_flat(data.recorded)))
    else:
        said.append(note("There is no readable dataset.json."))
    if classes:
        said.append(folded(f"{len(classes):,} classes", element("p", ", ".join(classes))))
    if data.picture:
        said.append(parts.figure(data.picture, "training images"))
    return [*said, note(data.note)] if data.note else said


def _commands(report: RunReport) -> list[Html]:
    said = []
    for purpose, lines in commands.of_run(report).items():
        said += [element("p", purpose), *(element("pre", line) for line in lines)]
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
