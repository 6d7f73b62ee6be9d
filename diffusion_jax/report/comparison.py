"""The report of several runs side by side."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from diffusion_jax.report import parts
from diffusion_jax.report.curves import Curve
from diffusion_jax.report.embedded import Embedded
from diffusion_jax.report.environment import Environment
from diffusion_jax.report.gather import RunReport, differing
from diffusion_jax.report.html import Html, document, element, note, section, table


def comparison(
    reports: Sequence[RunReport],
    environment: Environment,
    drawn: Sequence[Embedded | str] = (),
) -> Html:
    """drawn: for each run what `equal_seeds.draw` returns, if it is to be shown."""
    names = _names(reports)
    return document(
        "Runs " + ", ".join(names),
        _overview(names, reports),
        section("Settings that differ", *_settings(names, reports)),
        section("Curves", *_curves(names, reports)),
        *([section("Equal seeds", *_equal_seeds(names, drawn))] if drawn else []),
        section("Last samples", _samples(names, reports)),
        section("Evaluations", *_evaluations(names, reports)),
        section("Environment", *parts.environment_of(environment, *reports)),
        note(f"Written {environment.time:%Y-%m-%d %H:%M} UTC."),
    )


def _names(reports: Sequence[RunReport]) -> list[str]:
    """The names of the folders, or their paths where two have the same name."""
    names = [report.name for report in reports]
    if len(set(names)) == len(names):
        return names
    return [str(report.workdir) for report in reports]


def _overview(names: Sequence[str], reports: Sequence[RunReport]) -> Html:
    head = ("run", "steps", "parameters", "started", "last metrics", "last loss", "data")
    rows = []
    for name, report in zip(names, reports):
        data = report.data.recorded
        rows.append(
            [
                name,
                f"{report.steps_done:,} of {report.fields.get('steps', '')}",
                report.parameters or "not recorded",
                *parts.times(report),
                parts.last_loss(report),
                f"{data.get('name', '')} {str(data.get('fingerprint', ''))[:16]}",
            ]
        )
    return table(head, rows)


def _settings(names: Sequence[str], reports: Sequence[RunReport]) -> list[Html]:
    rows = differing([report.fields for report in reports])
    return [table(("field", *names), rows)] if rows else [note("There are none.")]


def _curves(names: Sequence[str], reports: Sequence[RunReport]) -> list[Html]:
    """One plot for each key, with a curve for each run that has it."""
    said = [line for report in reports for line in parts.damaged(report)]
    keys = list(dict.fromkeys(curve.name for report in reports for curve in report.curves))
    keys.sort(key=lambda key: key != "loss")
    plots = []
    for key in keys:
        # A run keeps its color in all plots, also where another lacks the key.
        found = [_curve(report, key, name) for name, report in zip(names, reports)]
        plots.append(element("div", element("h3", key), parts.plot(found, key)))
    curves = [curve for report in reports for curve in report.curves]
    if not plots:
        return [*said, note("There are no metrics yet.")]
    return [*said, element("div", *plots, class_="plots"), *parts.thinning(curves)]


def _curve(report: RunReport, key: str, name: str) -> Curve:
    """The curve of this key under the name of its run; an empty one if there is none."""
    for curve in report.curves:
        if curve.name == key:
            return Curve(name, curve.x, curve.y)
    return Curve(f"{name} (none)", np.zeros(0), np.zeros(0))


def _equal_seeds(names: Sequence[str], drawn: Sequence[Embedded | str]) -> list[Html]:
    cells = []
    for name, found in zip(names, drawn, strict=True):
        if isinstance(found, Embedded):
            cells.append(parts.figure(found, name))
        else:
            cells.append(element("div", element("p", name), note(found)))
    about = "Drawn by the newest checkpoints, each with its own settings, from equal noises; the "
    about += "classes are equal, too, where there are as many."
    return [note(about), element("div", *cells, class_="side")]


def _samples(names: Sequence[str], reports: Sequence[RunReport]) -> Html:
    cells = []
    for name, report in zip(names, reports):
        notes = [note(line) for line in report.sample_notes or ["There are none yet."]]
        for sample in report.samples[-1:]:
            cells.append(parts.figure(sample.picture, f"{name}, {parts.name_of(sample)}"))
        if not report.samples:
            cells.append(element("div", element("p", name), *notes))
    return element("div", *cells, class_="side")


def _evaluations(names: Sequence[str], reports: Sequence[RunReport]) -> list[Html]:
    """One table; a sweep over several runs leaves all its results in the folder of the first."""
    of_path = {str(report.workdir.resolve()): name for name, report in zip(names, reports)}
    found = {}
    for name, report in zip(names, reports):
        for result in report.evaluations.results:
            path = str(result.settings.get("workdir", ""))
            settings = {key: v for key, v in result.settings.items() if key != "workdir"}
            # A folder that has been moved is called otherwise by its own results.
            own = Path(path).name in ("", report.name)
            run = of_path.get(path, name if own else Path(path).name)
            found[result.name] = (run, replace(result, settings=settings))
    notes = [note(line) for report in reports for line in report.evaluations.notes]
    plots = [
        parts.figure(plot, f"{name}: {file}")
        for name, report in zip(names, reports)
        for file, plot in report.evaluations.plots
    ]
    pictures = element("div", *plots, class_="plots")
    if not found:
        return [*notes, pictures if plots else note("There are none yet.")]
    order = {name: place for place, name in enumerate(names)}
    pairs = sorted(found.values(), key=lambda pair: order.get(pair[0], len(order)))
    runs, results = zip(*pairs)
    return [*notes, parts.results_table(results, runs), pictures]
