"""What the report of one run and the comparison of several are made of."""

from collections.abc import Sequence

from diffusion_jax.report import curves as drawing
from diffusion_jax.report import evaluations
from diffusion_jax.report.curves import Curve
from diffusion_jax.report.embedded import Embedded
from diffusion_jax.report.environment import Environment
from diffusion_jax.report.gather import RunReport, Sample
from diffusion_jax.report.html import Html, element, facts, joined, note, picture, table

# Curves that share a plot, by the first word of their names. Any other has a plot of its own.
LOSSES = ("loss", "simple", "vlb", "cross_entropy", "mse")
LOGARITHMIC = ("loss", "gradient_norm")  # groups whose plot may have such an axis


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


def plot(curves: Sequence[Curve], name: str) -> Html:
    """The curves, with a legend above them. name: of one of them, or of their group."""
    logarithmic = group_of(name) in LOGARITHMIC and drawing.spans_a_decade(curves)
    drawn = drawing.svg([drawing.thinned(c) for c in curves], name, logarithmic=logarithmic)
    return element("figure", element("figcaption", drawing.legend(curves)), drawn)


def group_of(name: str) -> str:
    return "loss" if name.startswith(LOSSES) else name


def thinning(curves: Sequence[Curve]) -> list[Html]:
    """Says so if a curve has more points than its plot."""
    longest = max((len(curve.x) for curve in curves), default=0)
    if longest <= drawing.MOST_POINTS:
        return []
    return [note(f"{longest:,} points are shown as {drawing.MOST_POINTS:,} means of neighbors.")]


def damaged(report: RunReport) -> list[Html]:
    lines = "1 line" if report.skipped == 1 else f"{report.skipped} lines"
    said = f"{report.name}: {lines} of metrics.jsonl cannot be read and are left out."
    return [note(said)] if report.skipped else []


def figure(shot: Embedded, caption: str, *, hidden: bool = False) -> Html:
    """A picture with its caption, and what was done to make it small."""
    more = f" ({shot.change})" if shot.change else ""
    return picture(shot.uri, shot.width, shot.height, caption + more, hidden=hidden)


def name_of(sample: Sample) -> str:
    return sample.name if sample.step is None else f"step {sample.step:,}"


def environment_of(environment: Environment, *reports: RunReport) -> list[Html]:
    """What workdirs record of each start of their training, and the machine of this report."""
    parts = []
    for report in reports:
        for start in report.recorded:
            parts += [
                note(f"{report.name}, as recorded when training started:"),
                facts(start.items()),
            ]
    rows = [
        (report.name, f"{start.time:%Y-%m-%d %H:%M:%S} UTC", start.host)
        for report in reports
        for start in report.starts
        if not report.recorded
    ]
    if rows:
        parts.append(note("Recorded in the workdir, for each start of the training:"))
        parts.append(table(("run", "started", "host"), rows))
    return [*parts, note("Of the machine that wrote this report:"), facts(environment.facts)]


def results_table(
    results: Sequence[evaluations.Evaluation], runs: Sequence[str] | None = None
) -> Html:
    """runs: which each result is of, as a first column."""
    most = evaluations.MOST_ROWS
    head, rows = evaluations.as_table(results[:most])
    if runs is not None:
        head, rows = ["run", *head], [[run, *row] for run, row in zip(runs, rows)]
    same = [f"{name} {value}" for name, value in evaluations.in_common(results[:most]).items()]
    notes = [note(f"In common: {', '.join(same)}.")] if same else []
    if len(results) > most:
        notes.append(note(f"The first {most} of {len(results)} results."))
    return joined([*notes, table(head, rows)])
