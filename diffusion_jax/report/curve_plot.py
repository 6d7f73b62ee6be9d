"""Plots of curves as inline SVG, in the colors of a light or dark page.

Names of curves are in an HTML legend outside the SVG, where they can have any length.
"""

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from diffusion_jax.report.html import Html, element, text

# Legible on white and on black.
COLORS = ("#3b82c4", "#e07b28", "#3a9d5d", "#d1495b", "#8b6fc0", "#a07850", "#c860a8", "#8a9099")
DASHES = (
    "solid",
    "dashed",
    "dotted",
)  # after the last color, the colors repeat with the next style
MOST_POINTS = 1000
INK = "#010203"  # placeholder of the page's text color


@dataclass(frozen=True)
class Curve:
    """A metric over the step."""

    name: str
    x: Float[np.ndarray, "size"]
    y: Float[np.ndarray, "size"]


def spans_a_decade(curves: Sequence[Curve]) -> bool:
    """True if all values are positive and the largest exceeds ten times the smallest."""
    values = np.concatenate([curve.y[np.isfinite(curve.y)] for curve in curves])
    return bool(values.size and values.min() > 0 and values.max() > 10 * values.min())


def thinned(curve: Curve) -> Curve:
    """Returns the curve, or `MOST_POINTS` local means if it has more points."""
    if len(curve.x) <= MOST_POINTS:
        return curve
    x, y = (np.array_split(values, MOST_POINTS) for values in (curve.x, curve.y))
    return Curve(curve.name, np.array([p.mean() for p in x]), np.array([p.mean() for p in y]))


def svg(curves: Sequence[Curve], label: str, *, logarithmic: bool = False) -> Html:
    """Plots curves over the step, with gaps at values that are not finite.

    label: for screen readers.
    """
    ink = dict.fromkeys(("axes.edgecolor", "axes.labelcolor", "xtick.color"), INK)
    # With a fixed salt, identifiers of paths depend on the paths alone.
    style: dict[Any, str] = {
        **ink,
        "ytick.color": INK,
        "svg.fonttype": "none",
        "svg.hashsalt": "curves",
    }
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(6, 3), layout="constrained")
        axes = figure.subplots()
        for number, curve in enumerate(curves):
            color, dashes = _style(number)
            alone = np.isfinite(curve.y).sum() < 2  # one point makes no line
            axes.plot(
                *(curve.x, curve.y),
                color=color,
                linestyle=dashes,
                linewidth=1.3,
                marker="o" if alone else None,
            )
        axes.set_xlabel("step")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        if logarithmic:
            axes.set_yscale("log")
            low, high = axes.get_ylim()
            few = high < 1000 * low
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if few else (1,)))
            axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.2, color=INK, linewidth=0.6)
        file = io.StringIO()
        unset = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(file, format="svg", transparent=True, metadata=unset)
    return _inline(file.getvalue(), label)


def legend(curves: Sequence[Curve]) -> Html:
    """Returns the names of the curves, each beside a sample of its line."""
    entries = []
    for number, curve in enumerate(curves):
        color, dashes = _style(number)
        line = element("i", style=f"border-top-color: {color}; border-top-style: {dashes}")
        entries.append(element("span", line, curve.name))
    return element("div", *entries, class_="legend")


def _style(number: int) -> tuple[str, str]:
    dashes = DASHES[number // len(COLORS) % len(DASHES)]
    return COLORS[number % len(COLORS)], dashes


def _inline(svg_text: str, label: str) -> Html:
    """Returns Matplotlib's <svg> element without metadata and styles of a standalone file."""
    body = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", svg_text, flags=re.DOTALL)
    start = re.search(r'<svg\b[^>]*\bviewBox="([-\d. ]+)"[^>]*>', body)
    assert start is not None, body[:200]
    box = start[1]
    body = body[start.end() :].replace(INK, "currentColor").strip()
    return Html(f'<svg viewBox="{box}" role="img" aria-label="{text(label)}">{body}')
