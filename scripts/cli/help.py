"""Text of --help: the flags in groups, and the fields of a config."""

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

from absl import flags

from scripts.cli.path_flags import PathParser

# Modules that define flags for several scripts, and titles of their groups.
SHARED = {
    "sampling_flags": "Sampling and guidance",
    "processes": "Several machines",
}
FIELD = re.compile(r"    config\.(\S+) = ([^#]*?)(?:  # (.*))?$")
DERIVED = ("ConfigDict()", "config.get_ref", "block_options()")
KINDS = {flags.IntegerParser: "N", flags.FloatParser: "X", PathParser: "PATH"}


def text(about: str, program: str, base_config: Path) -> str:
    """Returns the help of a script. about: its docstring. base_config: the file of all fields."""
    about = about.strip()
    if program.startswith("diffusion-jax"):
        about = re.sub(r"python -m scripts\.\w+", program, about)
    lines = [about]
    for title, found in groups(program).items():
        lines += [f"\n{title}:", *map(described, found)]
    if "config" in flags.FLAGS:
        lines.append("\nFields of every config, --config.FIELD=VALUE; `train --dry_run` shows all:")
        for name, value, comment in fields(base_config.read_text()):
            lines.append(_entry(f"--config.{name}={value}", comment))
    return "\n".join(lines)


def groups(program: str) -> dict[str, list[flags.Flag]]:
    """Returns the flags by title of their group; flags of the script itself come first."""
    found: dict[str, list[flags.Flag]] = {"Flags": []} | {title: [] for title in SHARED.values()}
    for module, defined in flags.FLAGS.flags_by_module_dict().items():
        name = module.rpartition(".")[2]
        if module == program or name in ("__main__", "config_flag", "class_flag", *SHARED):
            own = [flag for flag in defined if "." not in flag.name]
            found[SHARED.get(name, "Flags")] += own
    return {title: own for title, own in found.items() if own}


def described(flag: flags.Flag) -> str:
    """Returns a flag with its kind of value, its default and its help."""
    value = _kind(flag.parser)
    name = f"--[no]{flag.name}" if flag.boolean else f"--{flag.name} {value}"
    about = flag.help.replace(f"<{value}>: ", "").partition(";\n")[0]
    if flag.default not in (None, [], "", False):
        default = (flag.default_as_str or "").strip("'")
        about += f" (default: {default})"
    return _entry(name, about)


def _kind(parser: flags.ArgumentParser | None) -> str:
    if isinstance(parser, flags.EnumParser):
        return "|".join(parser.enum_values)
    item = getattr(parser, "item", None)
    if isinstance(parser, flags.ListParser):
        return f"{_kind(item)},..."
    if item:
        return _kind(item)
    return next((name for kind, name in KINDS.items() if isinstance(parser, kind)), "TEXT")


def fields(source: str) -> Iterator[tuple[str, str, str]]:
    """Yields (dotted name, default, comment) of each field that the text of base.py sets."""
    above: list[str] = []
    for line in source.splitlines():
        if line.startswith("    # "):
            above.append(line.strip("# "))
            continue
        match = FIELD.match(line)
        if match and not match[2].startswith(DERIVED):
            value = "None" if match[2].startswith("placeholder(") else match[2].replace('"', "")
            yield match[1], value, match[3] or " ".join(above)
        if match or not line.strip():
            above = []


def _entry(name: str, about: str) -> str:
    return (
        f"  {name}\n" + textwrap.indent(textwrap.fill(about, 90), "      ")
        if about
        else f"  {name}"
    )
