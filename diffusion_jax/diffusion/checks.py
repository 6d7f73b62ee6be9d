"""Checks of options and arguments."""

from typing import Any

import numpy as np


def check_range(
    name: str, value: Any, lowest: int | float, highest: int | float | None = None
) -> None:
    """Raises ValueError for an option out of its range. Traced values are not checked."""
    if not isinstance(value, int | float):
        return
    within = value < float("inf") if highest is None else value <= highest
    if not (lowest <= value and within):
        wanted = f"at least {lowest}" if highest is None else f"in [{lowest}, {highest}]"
        finite = "" if abs(value) < float("inf") else ", and finite"
        raise ValueError(f"{name}={value} must be {wanted}{finite}")


def check_count(name: str, value: Any, highest: int | None = None) -> None:
    """Raises ValueError unless the value is a whole number from 1 to `highest`."""
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not whole or value < 1 or (highest is not None and value > highest):
        wanted = "at least 1" if highest is None else f"from 1 to {highest:,}"
        raise ValueError(f"{name}={value} must be a whole number, {wanted}")


def check_positive(**options: Any) -> None:
    """Raises ValueError for the first option that is not positive. Traced values pass."""
    for name, value in options.items():
        if isinstance(value, int | float) and not 0 < value < float("inf"):
            raise ValueError(f"{name}={value} must be positive")


def check_bools(**given: Any) -> None:
    """Raises ValueError for a value that is not True or False, such as "False", which is true."""
    for name, value in given.items():
        if not isinstance(value, bool | np.bool_):
            raise ValueError(f"{name}={value!r} must be True or False, without quotes")
