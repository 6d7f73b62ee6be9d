"""Arguments of constructors from a config, and errors that name the field."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ml_collections import ConfigDict

LONGEST_ERROR = 900  # characters


def accepted(function: Callable, given: Mapping[str, Any] | ConfigDict) -> dict[str, Any]:
    """Filters the given values by the names of the function's parameters."""
    return {name: given[name] for name in inspect.signature(function).parameters if name in given}


def sigma_data_argument(config: ConfigDict, function: Callable) -> dict[str, Any]:
    """Returns {"sigma_data": ...} if the function has that parameter, else {}.

    The parameterization and the loss weight share this field of the config.
    """
    return accepted(function, {"sigma_data": config.parameterization.sigma_data})


@contextmanager
def naming(field: str) -> Iterator[None]:
    """Prefixes errors with the name of a field or section of the config."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{field}: {error}") from None
    except TypeError as error:  # a text where a number belongs
        raise ValueError(f"{field} has an option of a wrong type: {error}") from None


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turns errors into ValueErrors of one line."""
    try:
        yield
    except ValueError as error:
        line = " ".join(str(error).split())
        if line == str(error) and len(line) <= LONGEST_ERROR:
            raise
        raise ValueError(line[:LONGEST_ERROR]) from None
    # A stored config may hold a section in place of a number, for example.
    except (TypeError, AttributeError, KeyError, OverflowError) as error:
        reason = " ".join(str(error).split())[:LONGEST_ERROR]
        raise ValueError(
            f"The config has a value of a wrong kind ({type(error).__name__}: {reason}); start "
            "from configs/base.py"
        ) from None
