"""Parts that the page of one run and the comparison share."""

from collections.abc import Sequence

from diffusion_jax.report import curve_plot, evaluations
from diffusion_jax.report.curve_plot import Curve
from diffusion_jax.report.embedded_picture import EmbeddedPicture
from diffusion_jax.report.environment import Environment
from diffusion_jax.report.html import Html, element, facts, joined, note, picture, table
from diffusion_jax.report.run_report import RunReport

NO_METRICS = "There are no metrics yet."
NONE_YET = "There are none yet."
UNKNOWN = "not recorded"

# Curves that share a plot, by the start of their names. Any other has a plot of its own.
LOSSES = ("loss", "simple", "vlb", "cross_entropy", "mse")
LOGARITHMIC = ("loss", "gradient_norm")  # groups whose plots may have a logarithmic axis


def last_loss(report: RunReport) -> str:
    for curve in report.metrics.curves:
        if curve.name == "loss":
            return f"{curve.y[-1]:.5g} at step {curve.x[-1]:,.0f}"
    return UNKNOWN


def times(report: RunReport) -> tuple[str, str]:
    """Returns the times of the first start and of the last metrics."""
    both = (report.starts[0].time if report.starts else None, report.metrics.written)
    first, last = (f"{time:%Y-%m-%d %H:%M} UTC" if time else UNKNOWN for time in both)
    return first, last


def plot(curves: Sequence[Curve], name: str) -> Html:
    """Plots curves under a legend. name: of one of them, or of their group."""
    logarithmic = group_of(name) in LOGARITHMIC and curve_plot.spans_a_decade(curves)
    svg = curve_plot.svg([curve_plot.thinned(c) for c in curves], name, logarithmic=logarithmic)
    return element("figure", element("figcaption", curve_plot.legend(curves)), svg)


def group_of(name: str) -> str:
    """Returns the group of curves that share a plot: "loss", or the curve's own name."""
    return "loss" if name.startswith(LOSSES) else name


def thinning_notes(curves: Sequence[Curve]) -> list[Html]:
    """Returns a note if a curve has more points than its plot."""
    longest = max((len(curve.x) for curve in curves), default=0)
    if longest <= curve_plot.MOST_POINTS:
        return []
    return [note(f"{longest:,} points are plotted as {curve_plot.MOST_POINTS:,} local means.")]


def unreadable_notes(report: RunReport) -> list[Html]:
    """Returns a note if lines of the metrics cannot be read."""
    count = report.metrics.unreadable
    lines = "1 line" if count == 1 else f"{count} lines"
    return [note(f"{report.name}: {lines} of metrics.jsonl cannot be read.")] if count else []


def figure(embedded: EmbeddedPicture, caption: str, *, hidden: bool = False) -> Html:
    """Returns a picture with its caption, which mentions a reduced size."""
    more = f" ({embedded.change})" if embedded.change else ""
    size = embedded.width, embedded.height
    return picture(embedded.uri, *size, caption + more, hidden=hidden)


def environment_section(environment: Environment, *reports: RunReport) -> list[Html]:
    """Returns the environments of each start of training, and of the report."""
    parts = []
    for report in reports:
        for start in report.recorded:
            parts += [
                note(f"{report.name}, recorded at a start of training:"),
                facts(start.items()),
            ]
    rows = [
        (report.name, f"{start.time:%Y-%m-%d %H:%M:%S} UTC", start.host)
        for report in reports
        for start in report.starts
        if not report.recorded
    ]
    if rows:
        parts.append(note("Starts of training, from the names of TensorBoard files:"))
        parts.append(table(("run", "started", "host"), rows))
    return [*parts, note("The machine that wrote this report:"), facts(environment.facts)]


def results_table(
    results: Sequence[evaluations.Evaluation], runs: Sequence[str] | None = None
) -> Html:
    """Returns the table of results. runs: the run of each, as a first column."""
    most = evaluations.MOST_ROWS
    head, rows = evaluations.as_table(results[:most])
    if runs is not None:
        head, rows = ["run", *head], [[run, *row] for run, row in zip(runs, rows)]
    same = [f"{name} {value}" for name, value in evaluations.in_common(results[:most]).items()]
    notes = [note(f"In common: {', '.join(same)}.")] if same else []
    if len(results) > most:
        notes.append(note(f"The first {most} of {len(results)} results."))
    return joined([*notes, table(head, rows)])
