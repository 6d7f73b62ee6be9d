"""How many pixels an image may have, and how many large ones are in memory at a time."""

import threading
import warnings
from contextlib import AbstractContextManager, nullcontext

from PIL import Image

MOST_PIXELS = 2**27  # 134 million
LARGE = 2**24  # pixels, from which on one image at a time is decoded and cropped
# Pixels that a crop may enlarge an image to, which matters for very long and narrow ones.
MOST_ENLARGED = 2**24

_ONE_AT_A_TIME = threading.Lock()

# Pillow warns, in two lines, of images that are still read here.
warnings.simplefilter("ignore", Image.DecompressionBombWarning)


class TooLarge(ValueError):
    """An image with more pixels than are read."""


def check_pixels(width: int, height: int) -> None:
    """Raises TooLarge for more than MOST_PIXELS."""
    if width * height > MOST_PIXELS:
        raise TooLarge(
            f"has {width} x {height} pixels; at most {MOST_PIXELS:,} are read. Make it smaller, or "
            "leave it out"
        )


def check_enlarged(before: tuple[int, int], after: tuple[int, int]) -> None:
    """Raises ValueError if resizing an image would make many more pixels of it."""
    if after[0] * after[1] > max(MOST_ENLARGED, before[0] * before[1]):
        raise ValueError(
            f"it has {before[0]} x {before[1]} pixels, and would be enlarged to {after[0]} x "
            f"{after[1]} before it is cropped, more than {MOST_ENLARGED:,}"
        )


def turn(width: int, height: int) -> AbstractContextManager:
    """For a large image: entered once no other one is being worked on."""
    return _ONE_AT_A_TIME if width * height >= LARGE else nullcontext()
