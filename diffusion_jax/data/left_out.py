"""Files of a folder that are no part of its dataset, by the reason."""

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

# Reason -> paths relative to the folder; names of whole sub-folders end in a slash.
LeftOut = Mapping[str, Sequence[str]]

HIDDEN = "hidden"
SYSTEM = "in a system folder"
INCLUDE = "not in data.include"
EXCLUDE = "in data.exclude"
MOST = 6  # reasons in a line


def by_extension(paths: Sequence[str]) -> dict[str, list[str]]:
    """Groups files that are no images by their extension."""
    grouped: dict[str, list[str]] = {}
    for path in paths:
        extension = PurePosixPath(path).suffix.lower() or "without extension"
        grouped.setdefault(f"{extension}, not an image format", []).append(path)
    return grouped


def counts(left_out: LeftOut) -> dict[str, int]:
    """Returns the number of paths for each reason, for JSON."""
    return {reason: len(paths) for reason, paths in left_out.items() if paths}


def line(left_out: LeftOut) -> str:
    """Returns a line with the numbers and an example of each reason; "" if there are none."""
    found = sorted(
        ((reason, paths) for reason, paths in left_out.items() if paths),
        key=lambda item: -len(item[1]),
    )
    if not found:
        return ""
    parts = [f"{len(paths):,} {reason} (such as {paths[0]})" for reason, paths in found[:MOST]]
    if rest := sum(len(paths) for _, paths in found[MOST:]):
        parts.append(f"{rest:,} for other reasons")
    return f"Left out: {'; '.join(parts)}"
