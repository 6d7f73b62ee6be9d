"""Checks that values from a file are a tree of a sensible size, before code walks over them.

Pickles may hold one value in many places: a list of ten times the same list of ten times the same
list, thirty deep, takes little memory, and for ever to print or compare. It may hold itself.
"""

from collections.abc import Callable, Iterable
from typing import Any

DEEPEST = 64  # lists, dicts and the like within each other
MOST = 2**21  # values, where one in two places counts twice

# The values that are directly in one; None if it is no container.
Parts = Callable[[Any], Iterable[Any] | None]


def parts_of(value: Any) -> Iterable[Any] | None:
    """Those of a list, tuple, set or dict."""
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list | tuple | set) else None


def check(value: Any, parts: Parts = parts_of) -> None:
    """Raises ValueError if values are nested too deep or in a circle, or are too many."""
    _measured(value, parts, 0, {})


def _measured(
    value: Any, parts: Parts, depth: int, known: dict[int, tuple[int, int] | None]
) -> tuple[int, int]:
    """(number of values, how deep they are nested). known: of containers; None before it is."""
    inside = parts(value)
    if inside is None:
        return 1, 0
    if id(value) in known:
        found = known[id(value)]
        if found is None:
            raise ValueError("it holds itself")
    else:
        if depth > DEEPEST:
            raise ValueError(f"its values are nested more than {DEEPEST} deep")
        known[id(value)] = None
        count, height = 1, 0
        for part in inside:
            more, below = _measured(part, parts, depth + 1, known)
            count, height = count + more, max(height, below + 1)
            if count > MOST:
                raise ValueError(f"it holds more than {MOST:,} values")
        found = known[id(value)] = count, height
    if depth + found[1] > DEEPEST:
        raise ValueError(f"its values are nested more than {DEEPEST} deep")
    return found
