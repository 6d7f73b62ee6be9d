"""Labels and class names: parsing, captions and file names."""

import difflib
import re
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Int

from diffusion_jax.pictures.captions import drawable, to_ascii

# Labels of images: a text for `parse_labels`, or a name or number for each image.
LabelsLike = str | int | Sequence[str | int] | Int[np.ndarray, "count"]

NO_CLASS = "none"  # the name of the null class
DEFAULT_COUNT = 64
ALONE = ("random", "all", "data", NO_CLASS)  # words that stand for the labels of all images


def parse_labels(
    text: str, count: int | None, num_classes: int, names: Sequence[str], seed: int
) -> Int[np.ndarray, "count"]:
    """Returns one label for each image.

    Args:
        text: "random", "all", "none" (the null class), or a list of numbers and names; see
            `parse_list`. Listed labels share the images evenly.
        count: The number of images; None for one for each listed label, or else 64.
        num_classes: The number of classes of the model.
        names: Their names, if any.
        seed: The seed of random labels.

    Raises:
        ValueError: The model has no such label, or there are more labels than images.
    """
    if not num_classes:
        if text not in ("random", NO_CLASS):
            raise ValueError(f"labels={text} was given, but the model has no classes")
        return np.zeros(count or DEFAULT_COUNT, np.int32)
    if text == "random":
        generator = np.random.default_rng(seed)
        return generator.integers(num_classes, size=count or DEFAULT_COUNT, dtype=np.int32)
    if text == NO_CLASS:
        return np.full(count or DEFAULT_COUNT, num_classes, np.int32)
    chosen = list(range(num_classes)) if text == "all" else parse_list(text, num_classes, names)
    count = count or len(chosen)
    if count < len(chosen):
        raise ValueError(f"count={count} is less than the number of labels, {len(chosen)}")
    return np.array(chosen, np.int32)[np.arange(count) * len(chosen) // count]


def parse_list(text: str, num_classes: int, names: Sequence[str]) -> list[int]:
    """Returns the labels in a list of numbers and names, separated by commas.

    A name may contain commas, as in "tench, Tinca tinca, 3": the longest matching name wins. Case
    is ignored unless two classes differ only in case. The part of a name before its first comma
    is enough if no other class has it. Raises ValueError for anything else, with the nearest name.
    """
    parts = [" ".join(part.split()) for part in text.split(",")]
    longest = max((name.count(",") + 1 for name in names), default=1)
    tables = _tables(names)
    labels = []
    while parts:
        for length in range(min(longest, len(parts)), 0, -1):
            label = _label_of(", ".join(parts[:length]), tables)
            if label is not None:
                break
        else:
            label = _number(parts[0], num_classes, names)
        labels.append(label)
        parts = parts[length:]
    return labels


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


def _tables(names: Sequence[str]) -> list[dict[str, list[int]]]:
    """Returns the labels by exact name, by name without case, and by the part before a comma."""
    spelled, folded, first = defaultdict(list), defaultdict(list), defaultdict(list)
    for label, name in enumerate(names):
        name = ", ".join(" ".join(part.split()) for part in name.split(","))
        spelled[name].append(label)
        folded[name.casefold()].append(label)
        first[name.partition(",")[0].casefold()].append(label)
    return [spelled, folded, first]


def _label_of(name: str, tables: Sequence[dict[str, list[int]]]) -> int | None:
    """Returns the label of a name, or None. Raises ValueError if several classes have the name."""
    for table, key in zip(tables, (name, name.casefold(), name.casefold())):
        found = table.get(key, [])
        if len(found) > 1:
            numbers = ", ".join(map(str, found))
            raise ValueError(f"{name!r} is the name of several classes; give a number of {numbers}")
        if found:
            return found[0]
    return None


def _number(text: str, num_classes: int, names: Sequence[str]) -> int:
    """Returns the label of a number. Raises ValueError for other text, with the nearest name."""
    if text.isdecimal():
        if int(text) < num_classes:
            return int(text)
        near = []
    else:
        if text in ALONE:
            raise ValueError(f"labels: {text!r} stands alone, not in a list; give it by itself")
        whole = {name.casefold(): name for name in names}
        known = {name.partition(",")[0].casefold(): name for name in names} | whole
        near = difflib.get_close_matches(text.casefold(), known, n=1)
    guess = f"did you mean {known[near[0]]!r}? " if near else ""
    raise ValueError(
        f"Unknown label {text!r}; {guess}known: 0 to {num_classes - 1}"
        + (f", or names such as {names[0]}, {names[-1]}" if names else "")
    )
