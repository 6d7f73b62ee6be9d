"""Writes the reference pages from the code: every field of a config, every flag, every docstring.

`conf.py` calls `main` at each build. The pages are not kept under version control.
"""

import functools
import importlib
import inspect
import json
import os
import pkgutil
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent

# The pages that `main` writes, besides those of the API.
PAGES = ("reference/config.md", "reference/flags.md", "reference/api.md")

# Run in a process of its own for each script: absl has one table of flags for a program.
PROBE = """
import importlib, json, sys
from absl import flags
module = importlib.import_module(sys.argv[1])
commands = getattr(module, "COMMANDS", None) or getattr(module, "WAYS", None)
commands = commands if isinstance(commands, dict) else {}
found = {
    flag.name: {"default": flag.default, "help": flag.help or "", "kind": flag.flag_type()}
    for name, known in flags.FLAGS.flags_by_module_dict().items()
    for flag in known
    if name.startswith(("scripts.", "benchmarks.", "diffusion_jax.")) or name == sys.argv[1]
}
commands = {
    name: [getattr(flag, "name", None) for flag in taken] for name, taken in commands.items()
}
print(json.dumps({"doc": module.__doc__, "flags": found, "commands": commands}, default=str))
"""


def main(docs: Path = DOCS) -> None:
    """Writes all pages."""
    pages = {"reference/config.md": config_page(), "reference/flags.md": flags_page(), **api()}
    for name, text in pages.items():
        path = docs / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.is_file() or path.read_text() != text:  # else Sphinx would read it again
            path.write_text(text)


# Flags.


def scripts() -> list[str]:
    """Returns the modules in scripts/ that can be run."""
    runnable = (p for p in sorted((ROOT / "scripts").glob("*.py")) if "__main__" in p.read_text())
    return [f"scripts.{path.stem}" for path in runnable]


@functools.cache
def describe(module: str) -> dict[str, Any]:
    """Returns the docstring of a script, its flags, and the flags of each of its commands."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", PROBE, module]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{module} cannot be imported: {done.stderr[-2000:]}")
    return json.loads(done.stdout)


def flags_page() -> str:
    parts = [
        "# Flags",
        "This page lists every flag of every script. It is made from the scripts, as `--help` is.",
        "`--config FILE` is followed by `--config.FIELD=VALUE` for any [field](config.md).",
        "",
    ]
    for module in scripts():
        about = describe(module)
        parts += [f"## {module}", "", "```text", about["doc"].strip(), "```", ""]
        commands = about["commands"]
        rows = []
        for name, flag in sorted(about["flags"].items()):
            if name in ("coordinator", "num_processes", "process_id"):
                continue
            takers = [command for command, taken in commands.items() if name in taken]
            everyone = not takers or len(takers) == len(commands)
            row = [f"`--{name}`", default_text(flag["default"]), cell(flag["help"])]
            rows.append([*row, "" if everyone else cell(", ".join(takers))] if commands else row)
        head = ["flag", "default", "meaning"] + (["only with"] if commands else [])
        parts += [table(head, rows), ""]
    machines = describe(scripts()[0])["flags"]
    parts += ["## Several machines", "", "Taken by all scripts.", ""]
    rows = [
        [f"`--{name}`", default_text(machines[name]["default"]), cell(machines[name]["help"])]
        for name in ("coordinator", "num_processes", "process_id")
        if name in machines
    ]
    return "\n".join([*parts, table(["flag", "default", "meaning"], rows), ""])


# Fields of a config.

FIELD = re.compile(r"^    config\.(?P<name>[\w.]+) = (?P<value>.*?)(?:  # (?P<comment>.*))?$")


def comments() -> dict[str, str]:
    """Returns the comment of each field and section in configs/base.py, by dotted name."""
    found, above = {}, []
    for line in (ROOT / "configs" / "base.py").read_text().splitlines():
        if line.startswith("    # "):
            above.append(line.strip("# "))
        elif match := FIELD.match(line):
            found[match["name"]] = " ".join([*above, match["comment"] or ""]).strip()
            above = []
        else:
            above = []
    return found


def config_page() -> str:
    from configs import base
    from diffusion_jax.config.schema import TABLES, flatten, model_section, options_by_name
    from diffusion_jax.models import MODELS
    from diffusion_jax.models.layers.block_chain import BLOCKS, own_options

    values, comment_of = flatten(base.get_config()), comments()
    optional = {
        f"{place}.{name}.{option}": table[name]
        for place, tables in TABLES.items()
        for table in tables
        for name, options in options_by_name(table).items()
        for option in options
    }
    blocks = {
        f"model.options.{name}.{option}": block
        for name, block in BLOCKS.items()
        for option in own_options(block)
    }
    # In the order of the file, which goes from the general to the particular.
    own = [name for name in values if name not in optional and name not in blocks]
    plain = [n for n in comment_of if n in own] + [n for n in own if n not in comment_of]
    parts = [
        "# Fields of a config",
        "This page is made from `configs/base.py` and from the functions that a config names. On",
        "the command line of `scripts.train`, a field is `--config.FIELD=VALUE`.",
        "[Choices](../choices.md) lists everything that is selected by name. None stands for off,",
        "or for a value that follows from others.",
        "",
    ]
    for section in dict.fromkeys(name.rpartition(".")[0] for name in plain):
        rows = [
            [f"`{name}`", default_text(values[name], none="`None`"), cell(comment_of.get(name, ""))]
            for name in plain
            if name.rpartition(".")[0] == section
        ]
        title = f"config.{section}" if section else "config"
        parts += [f"## {title}", "", comment_of.get(section, ""), ""]
        parts += [table(["field", "default", "meaning"], rows), ""]

    parts += ["## Options of choices", ""]
    parts += ["The options of a choice are a section of its name; other choices ignore them.", ""]
    for owners in (optional, blocks):
        for function in dict.fromkeys(owners.values()):
            names = [name for name, owner in owners.items() if owner is function]
            rows = [[f"`{name}`", default_text(values[name], none="`None`")] for name in names]
            parts += [f"### {names[0].rpartition('.')[0]}", "", prose(function.__doc__ or ""), ""]
            parts += [table(["field", "default"], rows), ""]

    parts += ["## config.model of other networks", ""]
    parts += ["With another `model.name`, the section has these fields.", ""]
    for name, model in MODELS.items():
        if name == values["model.name"]:
            continue
        fields = flatten(model_section(name))
        rows = [
            [f"`model.{f}`", default_text(v, none="`None`")]
            for f, v in fields.items()
            if f != "name"
        ]
        parts += [f"### {name}", "", prose(model.__doc__ or ""), ""]
        parts += [table(["field", "default"], rows), ""]
    return "\n".join(parts)


# Docstrings.


def api() -> dict[str, str]:
    """Returns the page of each part of the library, and the list of these pages."""
    import diffusion_jax

    found = [info.name for info in pkgutil.walk_packages(diffusion_jax.__path__, "diffusion_jax.")]
    # The playground is an application, and needs Gradio.
    found = [name for name in found if not name.startswith("diffusion_jax.playground.")]
    parts: dict[str, list[str]] = {"diffusion_jax": ["diffusion_jax"]}
    for name in found:
        package = ".".join(name.split(".")[:2])
        is_package = hasattr(importlib.import_module(package), "__path__")
        parts.setdefault(package if is_package else "diffusion_jax", []).append(name)
    pages, rows = {}, []
    for package, modules in parts.items():
        page = package.removeprefix("diffusion_jax.")
        about = (importlib.import_module(package).__doc__ or "").strip().splitlines()
        rows.append([f"[{package}](api/{page}.md)", cell(about[0] if about else "")])
        text = [f"# {package}", ""]
        for module in modules:
            title = [] if module == package else [f"## {module.removeprefix('diffusion_jax.')}", ""]
            text += [*title, "```{eval-rst}", f".. automodule:: {module}"]
            # Names that a package re-exports are documented where they are defined.
            if not hasattr(importlib.import_module(module), "__all__"):
                text += ["   :members:", "   :member-order: bysource"]
            text += ["```", ""]
        if package == "diffusion_jax":
            text.insert(text.index("```", 3) + 1, "\n" + exported(diffusion_jax))
        pages[f"reference/api/{page}.md"] = "\n".join(text)
    hidden = ["```{toctree}", ":hidden:", "", *(f"api/{Path(page).stem}" for page in pages), "```"]
    text = ["# Python", "", "These pages are made from the docstrings.", ""]
    text += [table(["part", "contents"], rows), ""]
    return {"reference/api.md": "\n".join([*text, *hidden, ""]), **pages}


def exported(module: Any) -> str:
    """Returns the list of exported names, with links to their definitions."""
    lines = ["Names exported by `diffusion_jax`:", ""]
    for name in module.__all__:
        thing = getattr(module, name)
        if inspect.ismodule(thing):
            lines.append(f"- `{name}`: {{py:mod}}`{thing.__name__}`")
        elif inspect.isclass(thing) or inspect.isfunction(thing):
            place = f"{thing.__module__}.{thing.__qualname__}"
            lines.append(f"- `{name}`: {{py:obj}}`{place}`")
        else:
            lines.append(f"- `{name}`")
    return "\n".join([*lines, ""])


# Markdown.


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [list(head), ["---"] * len(list(head)), *map(list, rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def default_text(value: Any, *, none: str = "") -> str:
    """Returns a default value for a cell of a table."""
    if value is None:
        return none
    if isinstance(value, str):
        return f"`{value}`" if value else "empty"
    if isinstance(value, Mapping):
        return "a section"
    return cell(f"`{value}`")


def cell(text: str) -> str:
    """Returns text for a cell of a table: one line, Markdown escaped, names of pages as links."""
    text = escaped(" ".join(text.split()))
    return re.sub(r"\bdocs/([\w/]+)\.md", r"[\1](../\1.md)", text)


def prose(docstring: str) -> str:
    """Returns a docstring as paragraphs; indented ones are equations."""
    paragraphs = inspect.cleandoc(docstring).split("\n\n")
    return "\n\n".join(p if p.startswith("    ") else cell(p) for p in paragraphs)


def escaped(text: str) -> str:
    """Escapes Markdown outside backticks."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(
        part.replace("|", r"\|")
        if part.startswith("`")
        else re.sub(r"([*|<>$\[\]]|\b_|_\b)", r"\\\1", part)
        for part in parts
    )


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
