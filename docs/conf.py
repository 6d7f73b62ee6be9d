"""Configuration of Sphinx: python -m sphinx -W --keep-going -b html docs build/docs"""

import inspect
import re
import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parent
sys.path[:0] = [str(DOCS.parent), str(DOCS)]

import generate

generate.main()

project = "diffusion_jax"
author = "the authors of diffusion_jax"
copyright = "the authors of diffusion_jax"

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.mathjax", "sphinx_copybutton"]
exclude_patterns = ["_build"]
# Types of other libraries, whose pages are not linked.
nitpick_ignore_regex = [("py:class", r"(jax|jaxtyping|numpy|np)\..*|ndarray")]

myst_enable_extensions = ["dollarmath", "colon_fence", "attrs_inline"]
myst_heading_anchors = 4
nb_execution_mode = "off"

# jaxtyping's types would make signatures several lines long.
autodoc_typehints = "none"
autodoc_preserve_defaults = True
add_module_names = False  # the heading has it
default_role = "code"
smartquotes = False  # flags begin with two hyphens

html_theme = "sphinx_book_theme"
html_title = "diffusion_jax"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_search_scorer = str(DOCS / "search_scorer.js")
html_theme_options = {
    "show_toc_level": 2,
    "home_page_in_toc": True,
    "use_download_button": False,
    "use_fullscreen_button": False,
}


def plain_docstring(app, what, name, thing, options, lines: list[str]) -> None:
    """Converts a docstring of plain prose to reStructuredText, with markup characters escaped.

    Indented paragraphs are equations. Lines "name: description", continued with an indent, are
    lists.
    """
    paragraphs = inspect.cleandoc("\n".join(lines)).split("\n\n")
    lines[:] = []
    for paragraph in paragraphs:
        rows = paragraph.splitlines()
        if not rows:
            continue
        if all(row.startswith("    ") for row in rows):
            lines += ["::", "", *rows, ""]
            continue
        items: list[str] = []
        for row in rows:
            if row.startswith((" ", "\t")) and items:
                items[-1] += " " + row.strip()
            else:
                items.append(row.strip())
        if len(items) == len(rows):  # no indents: one paragraph
            lines += [escaped(" ".join(items)), ""]
        else:
            lines += [f"- {escaped(item)}" for item in items] + [""]


def escaped(text: str) -> str:
    """Escapes markup characters; names in single backticks become code."""
    parts = re.split(r"(`[^`]+`)", text)
    text = "".join(
        f"`{part}`" if part.startswith("`") else re.sub(r"([\\*|_`])", r"\\\1", part)
        for part in parts
    )
    return re.sub(r"(?<=\w``)(?=\w)", r"\\ ", text)  # the end of "`name`s"


def without_empty_globs(app, docname: str, source: list[str]) -> None:
    """Drops entries of `index.md` whose page is missing from the checkout."""
    if docname != "index":
        return
    lines = source[0].splitlines(keepends=True)
    source[0] = "".join(
        line for line in lines if not re.fullmatch(r"\S*\w\*\S*\s*", line) or found(line.strip())
    )


def found(pattern: str) -> bool:
    return any(path.suffix in (".md", ".ipynb") for path in DOCS.glob(pattern))


def setup(app) -> None:
    app.connect("autodoc-process-docstring", plain_docstring)
    app.connect("source-read", without_empty_globs)
