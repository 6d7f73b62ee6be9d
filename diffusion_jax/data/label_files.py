"""Labels of images from files beside them: EDM's dataset.json, and tables with file names.

A table is a CSV file, or one JSON object a line (.jsonl), with the column `file_name` and a column
for the label, as Hugging Face's imagefolder has them in metadata.csv and metadata.jsonl. The names
of images are relative to the folder of the file.
"""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, cast

from diffusion_jax.data.file_tree import FileTree, read_text
from diffusion_jax.files import limits

EDM_FILE = "dataset.json"
FILE_NAME, LABEL = "file_name", "label"  # columns of tables
TABLES = (".csv", ".jsonl")
# Files that may hold labels.
SUFFIXES = (*TABLES, ".json", ".tsv", ".parquet", ".xlsx")
MOST_CLASSES = 2**17


class NoLabels(ValueError):
    """A file without labels in a known format; the message has the reason."""


@dataclass(frozen=True)
class LabelFile:
    """Labels in a file, by relative path of the image.

    numbered: class k is the label k, as EDM has it, even if smaller labels are missing.
    """

    name: str
    labels: dict[str, str | int]
    numbered: bool


def read_label_file(tree: FileTree, name: str, column: str | None = None) -> LabelFile | None:
    """Reads a file with labels; None if dataset.json has null in place of labels.

    column: of a table; None is "label". Raises NoLabels for another file, and ValueError for a
    damaged one.
    """
    path = PurePosixPath(name)
    if path.name == EDM_FILE and column is None:
        pairs = _edm_pairs(tree, name)
        return None if pairs is None else LabelFile(name, _by_path(tree, name, pairs), True)
    if path.suffix.lower() in TABLES:
        pairs = _table_pairs(tree, name, column or LABEL)
        return LabelFile(name, _by_path(tree, name, pairs), False)
    raise NoLabels("it is not a table, or dataset.json")


def merged(tree: FileTree, files: Sequence[LabelFile]) -> LabelFile:
    """Returns the labels of several files as one. Raises ValueError if they are of two kinds."""
    if len({file.numbered for file in files}) > 1:
        one, other = (next(f.name for f in files if f.numbered is kind) for kind in (True, False))
        raise ValueError(
            f"{tree.root} has labels in {one} and in {other}; leave one out with data.exclude"
        )
    labels: dict[str, str | int] = {}
    for file in files:
        for path, label in file.labels.items():
            if labels.setdefault(path, label) != label:
                two = f"{limits.shortened(labels[path])} and {limits.shortened(label)}"
                raise ValueError(f"{tree.root}: {limits.shortened(path)} has the labels {two}")
    more = f" and {len(files) - 1} more" if len(files) > 1 else ""
    return LabelFile(f"{files[0].name}{more}", labels, files[0].numbered)


def class_names(file: LabelFile) -> list[str]:
    """Returns the names of the classes in order: numbers by value, texts by spelling."""
    values = set(file.labels.values())
    if file.numbered:
        return [str(k) for k in range(max(map(int, values), default=-1) + 1)]
    names = {str(value) for value in values}
    if all(name.isdecimal() for name in names):
        return sorted(names, key=lambda name: (int(name), name))
    return sorted(names)


def _by_path(
    tree: FileTree, name: str, pairs: Iterable[tuple[str, str | int]]
) -> dict[str, str | int]:
    folder = PurePosixPath(name).parent
    labels: dict[str, str | int] = {}
    for file, label in pairs:
        path = str(folder / file.replace("\\", "/"))
        if labels.setdefault(path, label) != label:
            two = f"{limits.shortened(labels[path])} and {limits.shortened(label)}"
            raise ValueError(
                f"{tree.root / name} has two labels of {limits.shortened(file)}: {two}"
            )
    if not labels:
        raise NoLabels("it has no rows")
    if len(set(labels.values())) > MOST_CLASSES:
        raise ValueError(f"{tree.root / name} has more than {MOST_CLASSES:,} different labels")
    return labels


def _edm_pairs(tree: FileTree, name: str) -> list[tuple[str, int]] | None:
    """Returns (file, label) pairs of {"labels": [["00000/img00000000.png", 6], ...]}."""
    values = _parsed(tree, name, read_text(tree, name))
    if not isinstance(values, dict) or "labels" not in values:
        raise NoLabels('it has no "labels", as EDM\'s has')
    if values["labels"] is None:
        return None
    if not isinstance(values["labels"], list):
        raise ValueError(f'{tree.root / name}: its "labels" are not a list of [file, number]')
    pairs = []
    for entry in values["labels"]:
        match entry:
            case [str() as file, int() as label] if type(label) is int:
                if not 0 <= label < MOST_CLASSES:
                    raise ValueError(
                        f"{tree.root / name}: the label {label} of {limits.shortened(file)} must "
                        f"be in 0 ... {MOST_CLASSES - 1:,}"
                    )
                pairs.append((file, label))
            case _:
                raise ValueError(
                    f"{tree.root / name}: {limits.shortened(entry)} must be [file, number]; labels "
                    "of several numbers are not read"
                )
    return pairs


def _table_pairs(tree: FileTree, name: str, column: str) -> Iterator[tuple[str, str | int]]:
    rows = _json_rows if name.lower().endswith(".jsonl") else _csv_rows
    for number, row in enumerate(rows(tree, name)):
        missing = [key for key in (FILE_NAME, column) if key not in row]
        if missing and number == 0:
            known = ", ".join(limits.shortened(key) for key in row)[: limits.MESSAGE_LENGTH]
            raise NoLabels(f"it has no column {missing[0]} (its columns: {known})")
        file, label = row.get(FILE_NAME), row.get(column)
        if not isinstance(file, str) or not file:
            raise ValueError(f"{tree.root / name}: row {number + 1} has no {FILE_NAME}")
        if isinstance(label, str):
            label = label.strip()
        usable = isinstance(label, str | int) and not isinstance(label, bool)
        if not usable or not 0 < len(str(label)) <= limits.MESSAGE_LENGTH:
            raise ValueError(
                f"{tree.root / name}: the {column} of {limits.shortened(file)} is "
                f"{limits.shortened(label)}; it must be a text of at most {limits.MESSAGE_LENGTH} "
                "letters, or a whole number"
            )
        yield file, cast("str | int", label)


def _csv_rows(tree: FileTree, name: str) -> Iterator[dict[str, Any]]:
    try:
        yield from csv.DictReader(io.StringIO(read_text(tree, name), newline=""))
    except csv.Error as error:
        raise ValueError(f"{tree.root / name} is not readable as CSV: {error}") from None


def _json_rows(tree: FileTree, name: str) -> Iterator[dict[str, Any]]:
    for line in io.StringIO(read_text(tree, name)):
        if line.strip():
            row = _parsed(tree, name, line)
            if not isinstance(row, dict):
                raise ValueError(
                    f"{tree.root / name}: a line is {limits.shortened(row)}, no object"
                )
            yield row


def _parsed(tree: FileTree, name: str, text: str) -> Any:
    if sum(map(text.count, "[{,")) > limits.LABELS_VALUES:
        raise ValueError(f"{tree.root / name} holds more than {limits.LABELS_VALUES:,} values")
    try:
        return json.loads(text)
    except RecursionError:
        reason = "its values are nested too deeply"
    except ValueError as error:
        reason = limits.one_line(error)
    raise ValueError(f"{tree.root / name} is not readable as JSON: {reason}")
