"""Values of flags: lists, options and folders, with one line for each mistake."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from absl import flags

COMMAS = flags.CsvListSerializer(",")


class List(flags.ListParser):
    """Parser of a comma-separated list, whose items another parser reads."""

    def __init__(self, item: flags.ArgumentParser):
        super().__init__()
        self.item = item

    def parse(self, argument: Any) -> list:
        return [self.item.parse(value) for value in super().parse(argument)]


def options(
    texts: Sequence[str], given: Mapping[str, Any] = MappingProxyType({})
) -> dict[str, str]:
    """Returns options of solver and spacing from NAME=VALUE texts.

    given: options with flags of their own. Raises ValueError for a text of another form, and for an
    option that was given twice.
    """
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = (part.strip() for part in text.partition("="))
        if not name or not equals:
            raise ValueError(f"--option={text} must be NAME=VALUE, such as eta=0.5")
        if name in found or name in given:
            raise ValueError(f"The option {name} was given twice")
        found[name] = value
    return found


def results_folder(out: Path | None, parent: Path) -> Path:
    """Returns the folder that --out names, or the next of parent/0001, 0002, ...

    Raises ValueError if --out exists already and is not empty, or if it cannot be written.
    """
    from diffusion_jax.files import write_access
    from diffusion_jax.workdir.run_files import next_folder

    folder = next_folder(parent) if out is None else out
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise ValueError(f"--out={out} exists already; choose another folder, or delete it")
    write_access.check(folder, "--out", folder=True)
    return folder
