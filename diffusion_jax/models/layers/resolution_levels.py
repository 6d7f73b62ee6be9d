"""What U-Nets with `multipliers` and `attention` in their fields have in common."""

import math
from typing import Protocol, TypeVar, runtime_checkable

Number = TypeVar("Number", int, float)


@runtime_checkable
class Leveled(Protocol):
    """A network with these fields; see `ADM`."""

    width: int
    multipliers: str
    attention: str


def widths(network: Leveled) -> list[int]:
    """The channels of each level. Raises ValueError for multipliers that make no whole numbers."""
    multipliers = numbers("multipliers", network.multipliers, float)
    found = [network.width * multiplier for multiplier in multipliers]
    if any(width % 1 for width in found):
        raise ValueError(
            f"model.width={network.width} times model.multipliers={network.multipliers} must be "
            "whole numbers"
        )
    return [int(width) for width in found]


def attending(network: Leveled) -> list[int]:
    """The sides of the maps that have attention."""
    return numbers("attention", network.attention)


def numbers(field: str, text: str, kind: type[Number] = int) -> list[Number]:
    """The numbers in "1,2,3,4", all positive, whole unless kind is float.

    Raises ValueError, with the field's name, for another text.
    """
    try:
        found = [kind(part) for part in text.split(",") if part.strip()]
        if not all(0 < number < math.inf for number in found):
            raise ValueError("not positive")
        return found
    except ValueError:
        raise ValueError(f"model.{field}={text!r} must be numbers such as 1,2,3") from None


def channels_by_side(network: Leveled, resolution: int) -> dict[int, int]:
    """The channels of each level by the side of its maps, for images of this side.

    Raises ValueError if there is no level, if the side cannot be halved so often, or if maps that
    should have attention do not exist.
    """
    levels = widths(network)
    if not levels:
        raise ValueError(f"model.multipliers={network.multipliers!r} names no level")
    if resolution % 2 ** (len(levels) - 1):
        raise ValueError(
            f"data.resolution={resolution} is not divisible by {2 ** (len(levels) - 1)}, which the "
            f"{len(levels)} levels of model.multipliers={network.multipliers} need"
        )
    sides = {resolution // 2**level: channels for level, channels in enumerate(levels)}
    if lost := set(attending(network)) - set(sides):
        raise ValueError(
            f"model.attention={network.attention} has {min(lost)}, which is not the side of a "
            f"level: {', '.join(map(str, sides))}"
        )
    return sides
