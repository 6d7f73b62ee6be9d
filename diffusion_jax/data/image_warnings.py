"""Images that cropping and resizing change more than one would think: very small and very long."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from diffusion_jax.data.preparation import Cut

LONGEST = 3  # times as long as wide; of longer ones less than a third is kept


@dataclass(frozen=True)
class Oddities:
    """Collects such images, as names with sizes. cut: what becomes of them."""

    cut: Cut
    small: list[str] = field(default_factory=list)
    long: list[str] = field(default_factory=list)

    def see(self, name: str, size: tuple[int, int]) -> None:
        """size: width and height in pixels."""
        shown = f"{name} ({size[0]}x{size[1]})"
        if min(size) < self.cut.resolution:
            self.small.append(shown)
        if max(size) > LONGEST * min(size):
            self.long.append(shown)

    def lines(self, of: str) -> list[str]:
        """A line on each kind that was seen. of: among which images, "200 looked at", say."""
        side, said = self.cut.resolution, []
        if self.small:
            what = f"smaller than {side}x{side} and enlarged"
            said.append(f"{_few(self.small)} of {of} {_is(self.small)} {what}")
        if self.long:
            fate = "squeezed" if self.cut.crop == "stretch" else "cropped to a small part"
            what = f"more than {LONGEST} times as long as wide and {fate}"
            said.append(f"{_few(self.long)} of {of} {_is(self.long)} {what}")
        return [f"{line}; data.exclude leaves files out" for line in said]


def _few(names: Sequence[str]) -> str:
    return f"{len(names):,} (such as {min(names)})"


def _is(names: Sequence[str]) -> str:
    return "is" if len(names) == 1 else "are"
