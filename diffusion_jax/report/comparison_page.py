"""The page that compares several runs."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from diffusion_jax.report import sections
from diffusion_jax.report.config_fields import differing
from diffusion_jax.report.curve_plot import Curve
from diffusion_jax.report.embedded_picture import EmbeddedPicture
from diffusion_jax.report.environment import Environment
from diffusion_jax.report.html import Html, document, element, note, section, table
from diffusion_jax.report.run_report import RunReport


def comparison_page(
    reports: Sequence[RunReport],
    environment: Environment,
    equal_seeds: Sequence[EmbeddedPicture | str] = (),
) -> Html:
    """Returns the page of several runs. equal_seeds: results of `sample_equal_seeds` or none."""
    names = _names(reports)
    return document(
        "Runs " + ", ".join(names),
        _overview(names, reports),
        section("Settings that differ", *_settings(names, reports)),
        section("Curves", *_curves(names, reports)),
        *([section("Equal seeds", *_equal_seeds(names, equal_seeds))] if equal_seeds else []),
        section("Last samples", _samples(names, reports)),
        section("Evaluations", *_evaluations(names, reports)),
        section("Environment", *sections.environment_section(environment, *reports)),
        note(f"Written {environment.time:%Y-%m-%d %H:%M} UTC."),
    )


def _names(reports: Sequence[RunReport]) -> list[str]:
    """Returns the names of the folders, or their paths if two names are equal."""
    names = [report.name for report in reports]
    if len(set(names)) == len(names):
        return names
    return [str(report.workdir) for report in reports]


def _overview(names: Sequence[str], reports: Sequence[RunReport]) -> Html:
    head = ("run", "steps", "parameters", "started", "last metrics", "last loss", "data")
    rows = []
    for name, report in zip(names, reports):
        data = report.data.record
        rows.append(
            [
                name,
                f"{report.steps_done:,} of {report.fields.get('steps', '')}",
                report.parameters or sections.UNKNOWN,
                *sections.times(report),
                sections.last_loss(report),
                f"{data.get('name', '')} {str(data.get('fingerprint', ''))[:16]}",
            ]
        )
    return table(head, rows)


def _settings(names: Sequence[str], reports: Sequence[RunReport]) -> list[Html]:
    rows = differing([report.fields for report in reports])
    return [table(("field", *names), rows)] if rows else [note("None.")]


def _curves(names: Sequence[str], reports: Sequence[RunReport]) -> list[Html]:
    """Returns a plot for each metric, with the curves of all runs that have it."""
    notes = [line for report in reports for line in sections.unreadable_notes(report)]
    keys = list(dict.fromkeys(curve.name for report in reports for curve in report.metrics.curves))
    keys.sort(key=lambda key: key != "loss")
    plots = []
    for key in keys:
        # Runs without the metric get an empty curve, so that each run keeps its color.
        found = [_curve(report, key, name) for name, report in zip(names, reports)]
        plots.append(element("div", element("h3", key), sections.plot(found, key)))
    curves = [curve for report in reports for curve in report.metrics.curves]
    if not plots:
        return [*notes, note(sections.NO_METRICS)]
    return [*notes, element("div", *plots, class_="plots"), *sections.thinning_notes(curves)]


def _curve(report: RunReport, key: str, name: str) -> Curve:
    """Returns a run's curve of this metric, named like the run; an empty one if there is none."""
    for curve in report.metrics.curves:
        if curve.name == key:
            return Curve(name, curve.x, curve.y)
    return Curve(f"{name} (none)", np.zeros(0), np.zeros(0))


def _equal_seeds(names: Sequence[str], equal_seeds: Sequence[EmbeddedPicture | str]) -> list[Html]:
    cells = []
    for name, found in zip(names, equal_seeds, strict=True):
        if isinstance(found, EmbeddedPicture):
            cells.append(sections.figure(found, name))
        else:
            cells.append(element("div", element("p", name), note(found)))
    about = "Samples of the newest checkpoints from equal noise, each with its run's own settings. "
    about += "The classes are equal for runs with the same number of classes."
    return [note(about), element("div", *cells, class_="side")]


def _samples(names: Sequence[str], reports: Sequence[RunReport]) -> Html:
    cells = []
    for name, report in zip(names, reports):
        notes = [note(line) for line in report.samples.notes or [sections.NONE_YET]]
        for grid in report.samples.chosen[-1:]:
            cells.append(sections.figure(grid.picture, f"{name}, {grid.name}"))
        if not report.samples.chosen:
            cells.append(element("div", element("p", name), *notes))
    return element("div", *cells, class_="side")


def _evaluations(names: Sequence[str], reports: Sequence[RunReport]) -> list[Html]:
    """Returns one table of all results, each with the run that it evaluates.

    A sweep over several runs saves all results in the folder of the first run.
    """
    of_path = {str(report.workdir.resolve()): name for name, report in zip(names, reports)}
    found = {}
    for name, report in zip(names, reports):
        for result in report.evaluations.results:
            path = str(result.settings.get("workdir", ""))
            settings = {key: v for key, v in result.settings.items() if key != "workdir"}
            # Results have the path that the run had when it was evaluated.
            own = Path(path).name in ("", report.name)
            run = of_path.get(path, name if own else Path(path).name)
            found[result.name] = (run, replace(result, settings=settings))
    notes = [note(line) for report in reports for line in report.evaluations.notes]
    plots = [
        sections.figure(plot, f"{name}: {file}")
        for name, report in zip(names, reports)
        for file, plot in report.evaluations.plots
    ]
    pictures = element("div", *plots, class_="plots")
    if not found:
        return [*notes, pictures if plots else note(sections.NONE_YET)]
    order = {name: number for number, name in enumerate(names)}
    pairs = sorted(found.values(), key=lambda pair: order.get(pair[0], len(order)))
    runs, results = zip(*pairs)
    return [*notes, sections.results_table(results, runs), pictures]
