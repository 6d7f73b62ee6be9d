"""Types of network fields with their allowed values, and the check of both."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import jax


@dataclass(frozen=True)
class Bounds:
    """Bounds of a number: low <= value < high."""

    low: int | float
    high: int | float = float("inf")

    def __str__(self) -> str:
        if self.high == float("inf"):
            return f"at least {self.low:g}"
        return f"in [{self.low:g}, {self.high:g})"


Count = Annotated[int, Bounds(1)]
CountOrZero = Annotated[int, Bounds(0)]
Rate = Annotated[float, Bounds(0, 1)]
Sides = tuple[int, ...]  # of maps, in pixels
# Of convolutions and matrix products, see `dtype_of`.
Dtype = Literal["auto", "float32", "bfloat16"]


def dtype_of(name: Dtype) -> str:
    """Resolves "auto": float32 on CPUs, bfloat16 on accelerators.

    GPUs of NVIDIA before compute capability 8.0 have no arithmetic in bfloat16, and use float32.
    """
    if name != "auto":
        return name
    device = jax.devices()[0]
    capability = str(getattr(device, "compute_capability", ""))
    is_old = re.fullmatch(r"\d+\.\d+", capability) is not None and float(capability) < 8
    return "float32" if device.platform == "cpu" or is_old else "bfloat16"


def check_fields(owner: Any, prefix: str, values: Mapping[str, Any]) -> None:
    """Raises ValueError for the first value that the type of its dataclass field excludes.

    owner: the dataclass or an instance. prefix: of the names in the message, such as "model.".
    """
    for field in fields(owner):
        if field.name in values and (allowed := _excluded(field.type, values[field.name])):
            value = " ".join(str(values[field.name]).split())
            raise ValueError(f"{prefix}{field.name}={value} must be {allowed}")


def _excluded(annotation: Any, value: Any) -> str:
    """Describes the allowed values if the annotation excludes this one; returns "" if not.

    Tuples hold positive finite numbers. Annotations of other kinds are not checked.
    """
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (UnionType, Union):  # with None
        (kind,) = (kind for kind in arguments if kind is not NoneType)
        wanted = "" if value is None else _excluded(kind, value)
        return f"{wanted}, or None" if wanted else ""
    if origin is Literal:
        known = isinstance(value, str) and value in arguments
        text = " or ".join(arguments) if len(arguments) == 2 else f"one of {', '.join(arguments)}"
        return "" if known else text
    if origin is tuple:
        kinds = tuple(kind for kind in arguments if kind is not ...)
        whole = get_args(kinds[0]) == () and kinds[0] is int
        valid = isinstance(value, tuple) and all(
            _is_number(number, whole) and 0 < number < float("inf") for number in value
        )
        example = "whole numbers such as (16, 8)" if whole else "numbers such as (0.5, 1, 2)"
        return "" if valid else f"positive {example}"
    if origin is Annotated:
        kind, bounds = arguments
        if wrong := _excluded(kind, value):
            return wrong
        return "" if bounds.low <= value < bounds.high else str(bounds)
    if annotation in (int, float):
        valid = _is_number(value, annotation is int)
    else:
        valid = annotation not in (bool, str) or isinstance(value, annotation)
    return "" if valid else f"of type {annotation.__name__}"


def _is_number(value: Any, whole: bool) -> bool:
    return isinstance(value, int if whole else int | float) and not isinstance(value, bool)
