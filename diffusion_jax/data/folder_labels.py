"""Choice of the labels of a folder's images: sub-folders, files with labels, or file names."""

import itertools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from diffusion_jax.data import label_files
from diffusion_jax.data.file_tree import FileTree
from diffusion_jax.data.label_files import LabelFile, NoLabels
from diffusion_jax.files import limits

PREFIX_END = "_"  # guided-diffusion's: tench_0001.png is of the class tench
SHARD_DIGITS = 4  # least length of the names of folders that hold parts of a dataset


@dataclass(frozen=True)
class Labels:
    """Labels of images, in the order of the files.

    source: for `Description.origin`, or "". notes: lines for the summary. read: names of the files
    with labels.
    """

    numbers: list[int]
    class_names: list[str]
    source: str = ""
    notes: Sequence[str] = ()
    read: Sequence[str] = ()


def label_images(tree: FileTree, files: Sequence[str], others: Sequence[str], how: str) -> Labels:
    """Labels images.

    Args:
        files: the images.
        others: further files, which may hold labels.
        how: see `FolderOptions.labels`.

    Raises:
        ValueError: if the labels cannot be read or are missing, and for "auto" if sub-folders may
            not be the classes.
    """
    kind, _, column = how.partition(":")
    match kind:
        case "none":
            return Labels([0] * len(files), [])
        case "file":
            return _from_files(tree, files, others, column or None)
        case "prefix":
            return _named(tree, files, _prefix, "file names")
        case "folders" | "parents":
            _check_no_loose(tree, files)
            level = 0 if kind == "folders" else -2
            return _named(tree, files, lambda file: file.split("/")[level], "")
    return _guessed(tree, files, others)


def _guessed(tree: FileTree, files: Sequence[str], others: Sequence[str]) -> Labels:
    """Returns labels of files with labels, or else of sub-folders, or none."""
    found, unread, unlabeled = _read_all(tree, files, others, None)
    if found:
        return _numbered(tree, files, found)
    none = Labels([0] * len(files), [])
    if unlabeled:
        return Labels(none.numbers, [], notes=[f"{unlabeled[0]} has null in place of labels"])
    if any("/" not in file for file in files):
        notes = [f"{name} is not read as labels: {why}" for name, why in unread[:1]]
        return Labels(none.numbers, [], notes=[*notes, *_prefix_hint(files)])
    advice = "set data.labels=folders if the sub-folders are the classes, or none"
    if unread:
        name, why = unread[0]
        raise ValueError(
            f"{tree.root} has {name}, which is not read as labels: {why}. The classes are not "
            f"guessed: {advice}; or make it a table with the columns {label_files.FILE_NAME} and "
            f"{label_files.LABEL}"
        )
    if _are_shards(files):
        raise ValueError(
            f"The sub-folders of {tree.root} ({files[0].split('/')[0]}, ...) look like numbered "
            f"parts of a dataset, whose labels ({label_files.EDM_FILE}) are missing; {advice}"
        )
    return label_images(tree, files, others, "folders")


def _from_files(
    tree: FileTree, files: Sequence[str], others: Sequence[str], column: str | None
) -> Labels:
    found, unread, unlabeled = _read_all(tree, files, others, column)
    if found:
        return _numbered(tree, files, found)
    whys = [*unread, *((name, "it has null in place of labels") for name in unlabeled)]
    why = "".join(f"; {name} is not read: {reason}" for name, reason in whys[:1])
    raise ValueError(
        f"{tree.root} has no file with labels (data.labels=file): {label_files.EDM_FILE} as EDM "
        f"writes it, or a .csv or .jsonl with the columns {label_files.FILE_NAME} and "
        f"{column or label_files.LABEL}{why}"
    )


def _read_all(
    tree: FileTree, files: Sequence[str], others: Sequence[str], column: str | None
) -> tuple[list[LabelFile], list[tuple[str, str]], list[str]]:
    """Returns (label files, unread files with reasons, files without labels).

    A file named like the image beside it is about that image alone, and left out.
    """
    stems = {file.rpartition(".")[0] for file in files}
    found, unread, unlabeled = [], [], []
    for name in others:
        stem, _, suffix = name.rpartition(".")
        if f".{suffix.lower()}" not in label_files.SUFFIXES or stem in stems:
            continue
        try:
            file = label_files.read_label_file(tree, name, column)
        except NoLabels as error:
            unread.append((name, str(error)))
        else:
            (found if file else unlabeled).append(file or name)
    return found, unread, unlabeled


def _numbered(tree: FileTree, files: Sequence[str], found: Sequence[LabelFile]) -> Labels:
    labeled = label_files.merged(tree, found)
    missing = [file for file in files if file not in labeled.labels]
    if missing:
        raise ValueError(
            f"{len(missing):,} of {len(files):,} images have no label in {labeled.name}, such as "
            f"{missing[0]}; leave them out with data.exclude, or set data.labels"
        )
    names = label_files.class_names(labeled)
    _check_names(tree, names, "label")
    index = {name: number for number, name in enumerate(names)}
    numbers = [index[str(labeled.labels[file])] for file in files]
    absent = sorted(labeled.labels.keys() - set(tree.names))
    notes = []
    if absent:
        example = limits.shortened(absent[0])
        notes = [f"{labeled.name} names {len(absent):,} missing files, such as {example}"]
    return Labels(numbers, names, labeled.name, notes, [file.name for file in found])


def _named(
    tree: FileTree, files: Sequence[str], name_of: Callable[[str], str], source: str
) -> Labels:
    named = [name_of(file) for file in files]
    class_names = sorted(set(named))
    _check_names(tree, class_names)
    index = {name: number for number, name in enumerate(class_names)}
    return Labels([index[name] for name in named], class_names, source)


def _check_names(tree: FileTree, names: Sequence[str], where: str = "sub-folder") -> None:
    for name in names:
        if not name.isprintable():
            raise ValueError(f"{tree.root} has a {where} {name!a}, which cannot name a class")


def _check_no_loose(tree: FileTree, files: Sequence[str]) -> None:
    for file in files:
        if "/" not in file:
            raise ValueError(
                f"{tree.root / file} is in no sub-folder that could name its class; move it, or "
                "set data.labels=none"
            )


def _prefix(file: str) -> str:
    name = PurePosixPath(file).name
    prefix, end, _ = name.partition(PREFIX_END)
    if not end or not prefix:
        raise ValueError(
            f"{file} does not begin with a class and {PREFIX_END!r} (data.labels=prefix), as in "
            "tench_0001.png"
        )
    return prefix


def _prefix_hint(files: Sequence[str]) -> list[str]:
    """Returns a line if the names of the images may begin with classes."""
    try:
        names = sorted({_prefix(file) for file in files})
    except ValueError:
        return []
    if not 1 < len(names) <= len(files) // 2:
        return []
    return [
        f"The file names begin with {len(names):,} words, such as {names[0]} and {names[-1]}: "
        "data.labels=prefix takes them as classes"
    ]


def _are_shards(files: Sequence[str]) -> bool:
    """True for folders 00000, 00001, ... through which the numbers of the files rise."""
    ranges: dict[str, list[int]] = {}
    for file in files:
        folder = file.split("/")[0]
        digits = re.search(r"(\d+)$", PurePosixPath(file).stem)
        if not digits or len(digits[1]) > 18:
            return False
        ranges.setdefault(folder, []).append(int(digits[1]))
    names = sorted(ranges)
    numbered = all(name.isdecimal() and len(name) >= SHARD_DIGITS for name in names)
    if not numbered or int(names[0]) != 0 or len({len(name) for name in names}) > 1:
        return False
    return all(max(ranges[one]) < min(ranges[two]) for one, two in itertools.pairwise(names))
