"""What a folder of images holds, in a line or two, before anything is decoded."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from diffusion_jax.data.decoder import ALPHA, formats

LOOKED_AT = 200  # files whose headers are read
NAMED = 10  # classes that are listed


def lines(
    root: Path, files: Sequence[str], labels: Sequence[int], class_names: Sequence[str]
) -> list[str]:
    """The classes with their counts, and the sizes of the files, how many have transparency."""
    counts = np.bincount(labels, minlength=len(class_names))
    shown = [f"{name} ({count:,})" for name, count in zip(class_names, counts)]
    more = f", ... {len(shown) - NAMED} more" if len(shown) > NAMED else ""
    classes = f"{len(shown)} classes: {', '.join(shown[:NAMED])}{more}" if shown else _none(files)
    chosen = [files[i] for i in np.unique(np.linspace(0, len(files) - 1, LOOKED_AT).astype(int))]
    return [f"Found {len(files):,} images; {classes}", *_sizes(root, chosen, len(files))]


def _none(files: Sequence[str]) -> str:
    loose = [file for file in files if "/" not in file]
    if not loose or len(loose) == len(files):
        return "no classes"
    return (
        f"no classes, since {len(loose):,} of them lie outside the sub-folders, such as {loose[0]} "
        f"(move them, or data.exclude={loose[0]} leaves one out)"
    )


def _sizes(root: Path, files: Sequence[str], total: int) -> list[str]:
    """What the headers of these files say; files that cannot be read are the decoder's matter."""
    sizes, transparent = [], 0
    for file in files:
        if not (root / file).is_file():  # a pipe would be waited for
            continue
        try:
            with Image.open(root / file, formats=formats()) as image:
                sizes.append(image.size)
                transparent += image.mode in ALPHA or "transparency" in image.info
        except Exception:  # Pillow raises almost anything
            continue
    if not sizes:
        return []
    (least, most) = (end(sizes, key=lambda size: size[0] * size[1]) for end in (min, max))
    span = f"{least[0]}x{least[1]}" + (f" to {most[0]}x{most[1]}" if least != most else "")
    clear = f", {transparent} with transparency" if transparent else ""
    return [
        f"Of {len(sizes)} looked at: {span} pixels{clear}"
        if len(sizes) < total
        else f"Sizes: {span} pixels{clear}"
    ]
