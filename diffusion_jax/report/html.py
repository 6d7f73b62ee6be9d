"""Self-contained HTML pages: elements, tables and a slider of pictures.

All contents of an element are escaped, except `Html`, which only these functions return.
"""

import base64
import hashlib
import html
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

VOID = ("img", "input", "meta")  # elements without an end tag
STYLE = (Path(__file__).parent / "page.css").read_text(encoding="utf-8")
# Shows the slider's picture, at the start, too: browsers may restore an earlier position.
SCRIPT = """
for (const slider of document.querySelectorAll(".slider")) {
  const range = slider.querySelector("input"), frames = slider.querySelectorAll("figure");
  const show = () => frames.forEach((frame, i) => { frame.hidden = i !== Number(range.value); });
  range.addEventListener("input", show);
  show();
}
"""


class Html(str):
    """Text that is HTML and is not escaped again."""


def text(value: Any) -> Html:
    """Returns the value as escaped text."""
    if isinstance(value, Html):
        return value
    # Lone surrogates, as in file names that are not UTF-8, cannot be encoded.
    return Html(html.escape(str(value).encode("utf-8", "backslashreplace").decode()))


def joined(parts: Iterable[Any]) -> Html:
    return Html("".join(map(text, parts)))


def element(tag: str, *children: Any, **attributes: Any) -> Html:
    """Returns <tag attributes>children</tag>.

    class_ stands for class, aria_label for aria-label. True is an attribute without a value; None
    and False leave the attribute out.
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
    """Returns a table, with numbers on one line. A wide table scrolls sideways."""
    body = [element("tr", *map(_cell, row)) for row in rows]
    top = element("tr", *(element("th", cell) for cell in head))
    return element(
        "div", element("table", element("thead", top), element("tbody", *body)), class_="scroll"
    )


def _cell(value: Any) -> Html:
    number = re.fullmatch(r"[-+\d.,:e%]*", str(value))
    return element("td", value, class_="number" if number else None)


def facts(pairs: Iterable[tuple[str, Any]]) -> Html:
    """Returns names and values as a description list."""
    return element(
        "dl", *(element("div", element("dt", n), element("dd", value)) for n, value in pairs)
    )


def folded(summary: str, *children: Any) -> Html:
    """Returns contents that a click on the summary shows."""
    return element("details", element("summary", summary), *children)


def note(*children: Any) -> Html:
    return element("p", *children, class_="note")


def section(title: str, *children: Any) -> Html:
    return element("section", element("h2", title), *children)


def picture(uri: str, width: int, height: int, caption: str, *, hidden: bool = False) -> Html:
    """Returns a picture below its caption; small pictures are enlarged, with square pixels."""
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
    """Returns a slider that shows one figure at a time, the last one first.

    All figures but the last must be hidden.
    """
    last = len(figures) - 1
    control = element("input", type="range", min=0, max=last, value=last, step=1, aria_label=label)
    return element("div", control, *figures, class_="slider")


def document(title: str, *children: Any) -> Html:
    """Returns a whole page, whose policy allows no requests and no other script."""
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
