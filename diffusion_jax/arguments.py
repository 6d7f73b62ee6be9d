"""Checks of arguments that Python itself would accept."""

from typing import Any

import numpy as np


def check_bools(**given: Any) -> None:
    """Raises ValueError for a value that is not True or False, such as "False", which is true."""
    for name, value in given.items():
        if not isinstance(value, bool | np.bool_):
            raise ValueError(f"{name}={value!r} must be True or False, without quotes")
