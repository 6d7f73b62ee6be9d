"""The labels of the images to draw, from what a user types, and their names."""

import difflib
import re
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Int

from diffusion_jax.pictures import fonts

# The labels of some images: as `parse_labels` has them, or a name or number for each.
Asked = str | int | Sequence[str | int] | Int[np.ndarray, "count"]

NO_CLASS = "none"  # the name of the null class
DEFAULT_COUNT = 64
ALONE = ("random", "all", "data", NO_CLASS)  # words for the labels of all images


def parse_labels(
    text: str, count: int | None, num_classes: int, names: Sequence[str], seed: int
) -> Int[np.ndarray, "count"]:
    """One label for each image.

    text: "random", "all", "none" (the null class), or a list of numbers and names, see
    `parse_list`, which share the images evenly. count: None is one image for each label that was
    listed, or else 64. Raises ValueError for a label that the model does not have.
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
        raise ValueError(f"count={count} is less than the {len(chosen)} labels asked for")
    return np.array(chosen, np.int32)[np.arange(count) * len(chosen) // count]


def parse_list(text: str, num_classes: int, names: Sequence[str]) -> list[int]:
    """The labels in a list of numbers and names, with commas between them.

    A name may have commas of its own, as in "tench, Tinca tinca, 3": the longest name that fits is
    taken. Upper and lower case are the same, unless they tell classes apart. What comes before a
    name's first comma will do if no other class has it. Raises ValueError for anything else, with
    the nearest name.
    """
    parts = [" ".join(part.split()) for part in text.split(",")]
    longest = max((name.count(",") + 1 for name in names), default=1)
    tables = _tables(names)
    labels = []
    while parts:
        for length in range(min(longest, len(parts)), 0, -1):
            label = _labeled(", ".join(parts[:length]), tables)
            if label is not None:
                break
        else:
            label = _number(parts[0], num_classes, names)
        labels.append(label)
        parts = parts[length:]
    return labels


def name_of(label: int, num_classes: int, names: Sequence[str]) -> str:
    """The name of a class, or its number if there are no names."""
    if label == num_classes:
        return NO_CLASS
    return names[label] if names else str(label)


def described(
    labels: Int[np.ndarray, "count"], num_classes: int, names: Sequence[str]
) -> dict[str, Any]:
    """The labels of images and the names of these classes, for a JSON file."""
    if not num_classes:
        return {"count": len(labels)}
    present = {str(i): name_of(i, num_classes, names) for i in np.unique(labels).tolist()}
    return {"count": len(labels), "labels": labels.tolist(), "names": present}


def file_name(index: int, label: int, name: str) -> str:
    """Of the PNG of image `index`: 000012_label207_golden_retriever.png.

    Letters of the name that are not ASCII's are transliterated.
    """
    words = re.findall("[A-Za-z0-9]+", fonts.to_ascii(name)) if name != str(label) else []
    return "_".join([f"{index:06d}", f"label{label}", *words])[:80].rstrip("_") + ".png"


def captions(labels: Int[np.ndarray, "count"], num_classes: int, names: Sequence[str]) -> list[str]:
    """What can be written beside each image: its class, transliterated where no font has it.

    Nothing if the model has no classes, or if all images are of the null class.
    """
    if not num_classes or (labels == num_classes).all():
        return []
    present = np.unique(labels).tolist()
    shown = {i: fonts.drawable(name_of(i, num_classes, names), str(i)) for i in present}
    return [shown[label] for label in labels.tolist()]


def _tables(names: Sequence[str]) -> list[dict[str, list[int]]]:
    """The labels by name: as it is written, in any case, and by its part before a comma."""
    spelled, folded, first = defaultdict(list), defaultdict(list), defaultdict(list)
    for label, name in enumerate(names):
        name = ", ".join(" ".join(part.split()) for part in name.split(","))
        spelled[name].append(label)
        folded[name.casefold()].append(label)
        first[name.partition(",")[0].casefold()].append(label)
    return [spelled, folded, first]


def _labeled(name: str, tables: Sequence[dict[str, list[int]]]) -> int | None:
    """The label with this name, or None. Raises ValueError if it is the name of several."""
    for table, key in zip(tables, (name, name.casefold(), name.casefold())):
        found = table.get(key, [])
        if len(found) > 1:
            numbers = ", ".join(map(str, found))
            raise ValueError(f"{name!r} is the name of several classes; give a number of {numbers}")
        if found:
            return found[0]
    return None


def _number(text: str, num_classes: int, names: Sequence[str]) -> int:
    if text.isdecimal():
        if int(text) < num_classes:
            return int(text)
        near = []
    else:
        if text in ALONE:
            raise ValueError(f"labels: {text!r} stands alone, not in a list; draw it on its own")
        whole = {name.casefold(): name for name in names}
        known = {name.partition(",")[0].casefold(): name for name in names} | whole
        near = difflib.get_close_matches(text.casefold(), known, n=1)
    guess = f"did you mean {known[near[0]]!r}? " if near else ""
    raise ValueError(
        f"Unknown label {text!r}; {guess}known: 0 to {num_classes - 1}"
        + (f", or names such as {names[0]}, {names[-1]}" if names else "")
    )
