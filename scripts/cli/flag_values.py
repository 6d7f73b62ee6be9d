"""Values of flags: numbers, options and folders, with one line for each mistake."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags


def sampling_options(texts: Sequence[str], **shorthands: float | None) -> dict[str, Any]:
    """Options of solver and spacing from NAME=VALUE texts, or flags of their own (None: missing).

    Raises ValueError for a text of another form, and for an option that was given twice.
    """
    options: dict[str, Any] = {n: value for n, value in shorthands.items() if value is not None}
    for text in texts:
        name, equals, value = (part.strip() for part in text.partition("="))
        if not name or not equals:
            raise ValueError(f"--option={text} must be NAME=VALUE, such as eta=0.5")
        if name in options:
            raise ValueError(f"The option {name} was given twice")
        options[name] = value
    return options


def results_folder(out: str | None, parent: Path) -> Path:
    """The folder that --out names, or else parent/0001, 0002, ...: the number after the last.

    Raises ValueError if --out exists already and is not empty, or if it cannot be written.
    """
    from diffusion_jax.files import write_access
    from diffusion_jax.workdir.layout import next_folder

    folder = next_folder(parent) if out is None else Path(out)
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise ValueError(f"--out={out} exists already; choose another folder, or delete it")
    write_access.check(folder, "--out", folder=True)
    return folder


def numbers(flag: flags.FlagHolder, kind: type) -> list:
    """The numbers of a list; none if the flag is missing."""
    try:
        given = [kind(text) for text in flag.value or []]
        if not all(map(math.isfinite, given)):
            raise ValueError("not finite")
        return given
    except ValueError:
        text = ",".join(flag.value)
        raise ValueError(f"--{flag.name}={text} is not a list of numbers, such as 0,1") from None
