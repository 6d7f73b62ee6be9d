"""Labels and class names: parsing, captions and file names."""

import difflib
import re
from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import Int, Shaped

from diffusion_jax.pictures.captions import drawable, to_ascii

# Labels of images: a text for `parse_labels`, or a name or number for each image.
LabelsLike = str | int | np.integer | Sequence[str | int] | Shaped[np.ndarray, "..."]

NO_CLASS = "none"  # the name of the null class
DEFAULT_COUNT = 64
WORDS = ("random", "all", "data", NO_CLASS)  # they stand for the labels of all images
INDEX, NAME = "#", "="  # prefixes: #4 is an index, =4 the name of a class, #none a word
LISTED = 12  # names in an error message
LONGEST_INDEX = 9  # digits


def parse_labels(
    text: str, count: int | None, num_classes: int, names: Sequence[str], seed: int
) -> Int[np.ndarray, "count"]:
    """Returns one label for each image.

    Args:
        text: "random", "all", "none" (the null class), or a list of names and indices; see
            `parse_word` and `parse_list`. Listed labels share the images evenly.
        count: the number of images; None for one for each listed label, or else 64.
        num_classes: the number of classes of the model.
        names: their names, if any.
        seed: the seed of random labels.

    Raises:
        ValueError: the model has no such label, or there are more labels than images.
    """
    word = parse_word(text, names)
    check_classes(text, word, num_classes)
    if word == "data":
        raise ValueError("labels=data, the frequencies of the data, is for evaluations; use random")
    if not num_classes:
        return np.zeros(count or DEFAULT_COUNT, np.int32)
    if word == "random":
        generator = np.random.default_rng(seed)
        return generator.integers(num_classes, size=count or DEFAULT_COUNT, dtype=np.int32)
    if word == NO_CLASS:
        return np.full(count or DEFAULT_COUNT, num_classes, np.int32)
    chosen = list(range(num_classes)) if word == "all" else parse_list(text, num_classes, names)
    count = count or len(chosen)
    if count < len(chosen):
        raise ValueError(f"count={count} is less than the number of labels, {len(chosen)}")
    return np.array(chosen, np.int32)[np.arange(count) * len(chosen) // count]


def parse_word(text: str, names: Sequence[str]) -> str | None:
    """Returns the word of `WORDS` that a text is, in any case, or None.

    "#none" is always a word. Raises ValueError for "none" if it is also the name of a class.
    """
    word = text.strip().casefold()
    if word.startswith(INDEX):
        word = word[1:]
    else:
        _check_word(word, names)
    return word if word in WORDS else None


def check_classes(text: str, word: str | None, num_classes: int) -> None:
    """Raises ValueError if a model without classes is given labels."""
    if not num_classes and word not in ("random", NO_CLASS):
        raise ValueError(f"labels={text} was given, but the model has no classes")


def parse_list(text: str, num_classes: int, names: Sequence[str]) -> list[int]:
    """Returns the labels in a list of names and indices, separated by commas.

    #4 is the index 4, whatever the names are; =4 is the name 4. Without a prefix, 4 is an index
    unless names of this model are other numbers: then it is a name.

    A name may contain commas, as in "tench, Tinca tinca, #3": the longest matching name wins. Case
    is ignored unless two classes differ only in case. The part of a name before its first comma
    is enough if no other class has it. Raises ValueError for anything else, with the nearest name.
    """
    parts = [" ".join(part.split()) for part in text.split(",")]
    longest = max((name.count(",") + 1 for name in names), default=1)
    tables = _tables(tuple(names))
    labels = []
    while parts:
        for length in range(min(longest, len(parts)), 0, -1):
            label = _label_of(", ".join(parts[:length]), tables, names)
            if label is not None:
                _check_one_name(parts[:length], tables, names)
                break
        else:
            label = _index(parts[0], num_classes, names)
        labels.append(label)
        parts = parts[length:]
    return labels


def parse_one(label: Any, num_classes: int, names: Sequence[str]) -> int:
    """Returns a label of a Python list: an index, "none", or a text for one class.

    The index `num_classes` is the null class. Raises ValueError for anything else.
    """
    if isinstance(label, str):
        if parse_word(label, names) == NO_CLASS:
            return num_classes
        found = parse_list(label, num_classes, names)
        if len(found) != 1:
            raise ValueError(f"{label!r} names {len(found)} classes; give a list of single ones")
        return found[0]
    whole = isinstance(label, int | np.integer) and not isinstance(label, bool)
    if whole and 0 <= label <= num_classes:
        return int(label)
    raise ValueError(
        f"Unknown label {label!r}; known: 0 to {num_classes - 1}, and {num_classes}: none"
    )


def label_text(label: int, num_classes: int, names: Sequence[str]) -> str:
    """Returns a text that `parse_list` or `parse_word` takes for this label alone.

    It is the name of the class, the index with #, or the name with =.
    """
    name = class_name(label, num_classes, names)
    for text in (name, f"{INDEX}{NO_CLASS if label == num_classes else label}"):
        try:
            if parse_one(text, num_classes, names) == label:
                return text
        except ValueError:
            pass
    return f"{NAME}{name}"


def class_list(num_classes: int, names: Sequence[str]) -> list[str]:
    """Returns a line on each class, its index and its name, as in "#4 goldfish"."""
    return [f"{INDEX}{i} {names[i]}" if names else f"{INDEX}{i}" for i in range(num_classes)]


def class_name(label: int, num_classes: int, names: Sequence[str]) -> str:
    """Returns the name of a class, or its number if there are no names."""
    if label == num_classes:
        return NO_CLASS
    return names[label] if names else str(label)


def label_settings(
    labels: Int[np.ndarray, "count"], num_classes: int, names: Sequence[str]
) -> dict[str, Any]:
    """Returns the labels of images and the names of their classes, for a JSON file."""
    if not num_classes:
        return {"count": len(labels)}
    present = {str(i): class_name(i, num_classes, names) for i in np.unique(labels).tolist()}
    return {"count": len(labels), "labels": labels.tolist(), "names": present}


def file_name(index: int, label: int, name: str) -> str:
    """Returns the file name of an image, such as 000012_label207_golden_retriever.png.

    Letters outside ASCII are transliterated.
    """
    words = re.findall("[A-Za-z0-9]+", to_ascii(name)) if name != str(label) else []
    return "_".join([f"{index:06d}", f"label{label}", *words])[:80].rstrip("_") + ".png"


def captions(labels: Int[np.ndarray, "count"], num_classes: int, names: Sequence[str]) -> list[str]:
    """Returns the class name of each image, transliterated where no font has its letters.

    Returns no captions if the model has no classes, or if all images are of the null class.
    """
    if not num_classes or (labels == num_classes).all():
        return []
    present = np.unique(labels).tolist()
    names_by_label = {i: drawable(class_name(i, num_classes, names), str(i)) for i in present}
    return [names_by_label[label] for label in labels.tolist()]


@lru_cache(maxsize=4)
def _tables(names: tuple[str, ...]) -> list[dict[str, list[int]]]:
    """Returns the labels by exact name, by name without case, and by the part before a comma."""
    spelled, folded, first = defaultdict(list), defaultdict(list), defaultdict(list)
    for label, name in enumerate(names):
        name = ", ".join(" ".join(part.split()) for part in name.split(","))
        spelled[name].append(label)
        folded[name.casefold()].append(label)
        first[name.partition(",")[0].casefold()].append(label)
    return [spelled, folded, first]


def _check_word(text: str, names: Sequence[str]) -> None:
    """Raises ValueError for a word that is also the name of a class."""
    if text in WORDS:
        for label, name in enumerate(names):
            if name.partition(",")[0].strip().casefold() == text:
                raise ValueError(
                    f"labels: {text!r} is a word, and the name of a class; write {INDEX}{text} for "
                    f"the word, {INDEX}{label} for the class"
                )


def _check_one_name(
    parts: Sequence[str], tables: Sequence[dict[str, list[int]]], names: Sequence[str]
) -> None:
    """Raises ValueError if a name with commas is also a list of the names of several classes."""
    if len(parts) > 1 and all(_label_of(part, tables, names) is not None for part in parts):
        name = ", ".join(parts)
        raise ValueError(
            f"{name!r} is ambiguous: the name of one class and a list of other names; give "
            f"indices, such as {INDEX}{_label_of(name, tables, names)}"
        )


def _label_of(
    text: str, tables: Sequence[dict[str, list[int]]], names: Sequence[str]
) -> int | None:
    """Returns the label of a name, or None. Raises ValueError if several classes have the name."""
    if _is_index(text):
        return None
    name = text.removeprefix(NAME).strip()
    if name == text:
        _check_word(text.casefold(), names)
    for table, key in zip(tables, (name, name.casefold(), name.casefold())):
        found = table.get(key, [])
        if len(found) > 1:
            indices = ", ".join(f"{INDEX}{label}" for label in found)
            raise ValueError(f"{name!r} is the name of several classes; give one of {indices}")
        if found:
            return found[0]
    return None


def _is_index(text: str) -> bool:
    return text.startswith(INDEX) and text[1:].isdecimal()


def _is_number(name: str) -> bool:
    return re.fullmatch(r"[+-]?\d+([.,]\d+)?", name.partition(",")[0].strip()) is not None


def _index(text: str, num_classes: int, names: Sequence[str]) -> int:
    """Returns the label of an index. Raises ValueError for other text, with the nearest name."""
    numbered = any(_is_number(name) and name != str(i) for i, name in enumerate(names))
    digits = text.removeprefix(INDEX)
    if _is_index(text) and text in names and names.index(text) != int(digits):
        raise ValueError(
            f"{text!r} is an index, and the name of a class; give {NAME}{text} or the name of the "
            f"class {digits}"
        )
    usual = _is_index(text) or (text.isdecimal() and not numbered)
    if usual and len(digits) <= LONGEST_INDEX and int(digits) < num_classes:
        return int(digits)
    if text.casefold() in WORDS:
        raise ValueError(f"labels: {text!r} cannot be part of a list; give it alone")
    near = []
    if not digits.isdecimal():
        whole = {name.casefold(): name for name in names}
        known = {name.partition(",")[0].casefold(): name for name in names} | whole
        near = difflib.get_close_matches(text.removeprefix(NAME).casefold(), known, n=1)
        guess = f"did you mean {known[near[0]]!r}? " if near else ""
    else:
        fits = numbered and len(digits) <= LONGEST_INDEX and int(digits) < num_classes
        guess = f"names of classes are numbers; {INDEX}{digits} is an index; " if fits else ""
    start = INDEX if numbered else ""
    raise ValueError(
        f"Unknown label {text!r}; {guess}known: {start}0 to {start}{num_classes - 1}"
        + (f", or {_examples(names)}" if names else "")
    )


def _examples(names: Sequence[str]) -> str:
    if len(names) <= LISTED:
        return f"names such as {', '.join(names)}"
    return f"names such as {names[0]}, {names[-1]} (--classes lists all)"
