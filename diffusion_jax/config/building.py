"""Helpers that build objects from sections of a config, with errors in the config's words."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ml_collections import ConfigDict

LONGEST = 900  # characters of an error


def accepted(function: Callable, given: Mapping[str, Any] | ConfigDict) -> dict[str, Any]:
    """Returns the values that the function has arguments for."""
    return {name: given[name] for name in inspect.signature(function).parameters if name in given}


def shared_arguments(config: ConfigDict, function: Callable) -> dict[str, Any]:
    """Returns the fields that several entries of a table share, as far as this one takes them."""
    return accepted(function, {"sigma_data": config.parameterization.sigma_data})


@contextmanager
def section(name: str) -> Iterator[None]:
    """Puts the name of the field or section in front of errors."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    except TypeError as error:  # a text where a number belongs
        raise ValueError(f"{name} has an option of a wrong type: {error}") from None


@contextmanager
def one_line() -> Iterator[None]:
    """Makes errors ValueErrors of one line."""
    try:
        yield
    except ValueError as error:
        line = " ".join(str(error).split())
        if line == str(error) and len(line) <= LONGEST:
            raise
        raise ValueError(line[:LONGEST]) from None
    # A stored config may hold a section in place of a number, for example.
    except (TypeError, AttributeError, KeyError, OverflowError) as error:
        reason = " ".join(str(error).split())[:LONGEST]
        raise ValueError(
            f"The config has a value of a wrong kind ({type(error).__name__}: {reason}); start "
            "from configs/base.py"
        ) from None
