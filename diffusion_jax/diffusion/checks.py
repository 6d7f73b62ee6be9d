"""Checks of the options that a config can have."""

from typing import Any


def check_range(
    name: str, value: Any, lowest: int | float, highest: int | float | None = None
) -> None:
    """Raises ValueError for an option that is a plain number out of its range.

    Under jit options are traced, and have been checked before.
    """
    if not isinstance(value, int | float):
        return
    within = value < float("inf") if highest is None else value <= highest
    if not (lowest <= value and within):
        wanted = f"at least {lowest}" if highest is None else f"in [{lowest}, {highest}]"
        finite = "" if abs(value) < float("inf") else ", and finite"
        raise ValueError(f"{name}={value} must be {wanted}{finite}")


def check_positive(**options: Any) -> None:
    """Raises ValueError for the first option that is a plain number, and not positive."""
    for name, value in options.items():
        if isinstance(value, int | float) and not 0 < value < float("inf"):
            raise ValueError(f"{name}={value} must be positive")
