"""Warnings about images that are enlarged or lose most of their area to the crop."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from diffusion_jax.data.crops import Crop

LARGEST_ASPECT = 3  # a square crop of longer images keeps less than a third


@dataclass(frozen=True)
class ImageWarnings:
    """Images, as names with sizes, that are smaller than the crop or very long."""

    crop: Crop
    small: list[str] = field(default_factory=list)
    long: list[str] = field(default_factory=list)

    def add(self, name: str, size: tuple[int, int]) -> None:
        """Adds an image if it is small or long. size: width and height in pixels."""
        text = f"{name} ({size[0]}x{size[1]})"
        if min(size) < (self.crop.resolution or 0):
            self.small.append(text)
        if max(size) > LARGEST_ASPECT * min(size):
            self.long.append(text)

    def lines(self, of: str) -> list[str]:
        """Returns a line on each kind. of: the images that were checked, such as "200 images"."""
        side, found = self.crop.resolution, []
        if self.small:
            what = f"smaller than {side}x{side} and enlarged"
            found.append(f"{_few(self.small)} of {of} {_is(self.small)} {what}")
        if self.long:
            fate = "squeezed" if self.crop.method == "stretch" else "cropped to a small part"
            what = f"more than {LARGEST_ASPECT} times as long as wide and {fate}"
            found.append(f"{_few(self.long)} of {of} {_is(self.long)} {what}")
        return [f"{line}; data.exclude leaves files out" for line in found]


def _few(names: Sequence[str]) -> str:
    return f"{len(names):,} (such as {min(names)})"


def _is(names: Sequence[str]) -> str:
    return "is" if len(names) == 1 else "are"
