"""Pages of HTML that need no other file: elements, tables and a slider of pictures.

Whatever is put into an element is escaped, unless it is `Html`, which only these functions make.
"""

import base64
import hashlib
import html
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

VOID = ("img", "input", "meta")  # elements that have no end
STYLE = (Path(__file__).parent / "page.css").read_text(encoding="utf-8")
# Shows the picture that a slider points at; a browser may remember where it was.
SCRIPT = """
for (const slider of document.querySelectorAll(".slider")) {
  const range = slider.querySelector("input"), frames = slider.querySelectorAll("figure");
  const show = () => frames.forEach((frame, i) => { frame.hidden = i !== Number(range.value); });
  range.addEventListener("input", show);
  show();
}
"""


class Html(str):
    """Text that is HTML already."""


def text(value: Any) -> Html:
    """The value as text in which no character has a meaning in HTML."""
    if isinstance(value, Html):
        return value
    # Half a surrogate pair, as in names of files that are no valid text, cannot be written.
    return Html(html.escape(str(value).encode("utf-8", "backslashreplace").decode()))


def joined(parts: Iterable[Any]) -> Html:
    return Html("".join(map(text, parts)))


def element(tag: str, *children: Any, **attributes: Any) -> Html:
    """<tag attributes>children</tag>.

    class_ is the attribute class, aria_label is aria-label. True is an attribute without a value,
    None and False are none.
    """
    words = [tag]
    for name, value in attributes.items():
        name = name.rstrip("_").replace("_", "-")
        if value is True:
            words.append(name)
        elif value is not None and value is not False:
            words.append(f'{name}="{text(value)}"')
    end = "" if tag in VOID else f"</{tag}>"
    return Html(f"<{' '.join(words)}>{joined(children)}{end}")


def table(head: Sequence[Any], rows: Iterable[Sequence[Any]]) -> Html:
    """A table that can be scrolled sideways where it is wider than the page.

    Numbers stay on one line.
    """
    body = [element("tr", *map(_cell, row)) for row in rows]
    top = element("tr", *(element("th", cell) for cell in head))
    return element(
        "div", element("table", element("thead", top), element("tbody", *body)), class_="scroll"
    )


def _cell(value: Any) -> Html:
    number = re.fullmatch(r"[-+\d.,:e%]*", str(value))
    return element("td", value, class_="number" if number else None)


def facts(pairs: Iterable[tuple[str, Any]]) -> Html:
    """Names and values, as a list of terms."""
    return element(
        "dl", *(element("div", element("dt", n), element("dd", value)) for n, value in pairs)
    )


def folded(summary: str, *children: Any) -> Html:
    """What is shown after a click on its summary."""
    return element("details", element("summary", summary), *children)


def note(*children: Any) -> Html:
    return element("p", *children, class_="note")


def section(title: str, *children: Any) -> Html:
    return element("section", element("h2", title), *children)


def picture(uri: str, width: int, height: int, caption: str, *, hidden: bool = False) -> Html:
    """A picture with a caption above it; small ones are enlarged, so that pixels are squares."""
    scale = max(1, 512 // max(width, height))
    image = element(
        "img",
        src=uri,
        alt=caption,
        width=scale * width,
        height=scale * height,
        class_="pixels" if scale > 1 else None,
    )
    return element("figure", element("figcaption", caption), image, hidden=hidden)


def slider(figures: Sequence[Html], label: str) -> Html:
    """One of the figures at a time, the last at first, and a slider that chooses it.

    All but the last must be hidden.
    """
    last = len(figures) - 1
    control = element("input", type="range", min=0, max=last, value=last, step=1, aria_label=label)
    return element("div", control, *figures, class_="slider")


def document(title: str, *children: Any) -> Html:
    """A whole page. Its browser is told to load nothing, and to run no other script."""
    digest = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    policy = (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'"
    )
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", title),
        element("style", Html(STYLE)),
    )
    main = element("main", element("h1", title), *children)
    body = element("body", main, element("script", Html(SCRIPT)))
    return Html("<!DOCTYPE html>\n" + element("html", head, body, lang="en") + "\n")
