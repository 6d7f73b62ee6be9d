"""Counts of conversions that change the meaning of pixels, by color profiles for example."""

import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

# Number of images, and the name of one, by kind of conversion: a key of `TEXTS`, or `deep`.
Counts = dict[str, tuple[int, str]]

# Kinds of conversions, with what is done and the option that does something else.
TEXTS = {
    "orientation ignored": (
        "Used as stored, ignoring the EXIF orientation",
        "data.upright=True applies it",
    ),
    "orientation": ("Rotated by the EXIF orientation", ""),
    "colors ignored": (
        "Used as stored, ignoring a color profile or gamma other than sRGB",
        "data.srgb=True applies it",
    ),
    "colors": ("Converted to sRGB from another color profile or gamma", ""),
    "profile unreadable": ("Used as stored, since the color profile is unreadable", ""),
    "transparent": ("Composited on white where transparent", ""),
    "frames": ("Reduced to the first of several frames", ""),
    "space": ("Converted to RGB from CMYK or another color space, without a profile", ""),
}


DEEP = ("gray", "color")


def deep(colors: str, used: int, bits: int) -> str:
    """Returns the kind of an image of which `used` bits are used, and `bits` are scaled to 8.

    colors: one of `DEEP`.
    """
    return f"{colors} {used} of {bits}"


class PixelNotes:
    """Counts of conversions; several threads may add to them. root: of the files' names."""

    def __init__(self, root: Path | None = None) -> None:
        self._root = root
        self._counts: Counts = {}
        self._lock = threading.Lock()

    def add(self, kinds: Sequence[str], path: Path) -> None:
        """Counts an image with conversions of these kinds."""
        if not kinds:
            return
        name = str(path.relative_to(self._root) if self._root else path)
        with self._lock:
            self._counts = merged([self._counts, dict.fromkeys(kinds, (1, name))])

    def take(self) -> Counts:
        """Returns the counts, and starts again at zero."""
        with self._lock:
            counts, self._counts = self._counts, {}
        return counts


def merged(parts: Iterable[Mapping[str, Any]]) -> Counts:
    """Adds counts."""
    total: Counts = {}
    for part in parts:
        for kind, (count, example) in part.items():
            before, first = total.get(kind, (0, example))
            total[kind] = before + count, min(first, example)
    return total


def lines(counts: Mapping[str, tuple[int, str]], total: int) -> list[str]:
    """Returns a line on each kind of conversion. total: number of images."""
    found = [(*TEXTS[kind], *counts[kind]) for kind in TEXTS if kind in counts]
    for colors in DEEP:
        kinds = [kind for kind in counts if kind.startswith(f"{colors} ")]
        if kinds:
            used, bits = max(tuple(map(int, kind.split()[1::2])) for kind in kinds)
            every = merged({colors: counts[kind]} for kind in kinds)
            found.append((*_deep_text(colors, used, bits), *every[colors]))
    return [
        f"{text}: {count:,} of {total:,} images, such as {example}{advice and f'; {advice}'}"
        for text, advice, count, example in found
    ]


def _deep_text(colors: str, used: int, bits: int) -> tuple[str, str]:
    if used >= bits:
        return f"Scaled from {bits} bits per channel to 8", ""
    text = f"Scaled from {bits} bits per channel to 8; only {used} are used, so the images are dark"
    can_scale = colors == "gray" and used > 0
    return text, f"data.bits={used} makes {2**used - 1} white" if can_scale else ""
