"""What a folder of images holds, in a line or two, before anything is decoded."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from diffusion_jax.data.decoder import ALPHA, open_image
from diffusion_jax.data.image_warnings import Oddities
from diffusion_jax.data.preparation import Cut

LOOKED_AT = 200  # files whose headers are read
NAMED = 10  # classes that are listed


# What a process has said, which it says once, however often it opens the folder.
_SAID: set[tuple[str, ...]] = set()


def say_once(root: Path, *found: Sequence, **options: Any) -> None:
    """Prints the lines on a folder, unless this process has done so. The arguments of `lines`."""
    said = lines(root, *found, **options)
    key = (str(root.resolve()), *said)
    if key not in _SAID:
        print(*said, sep="\n")
    _SAID.add(key)


def lines(
    root: Path,
    files: Sequence[str],
    labels: Sequence[int],
    class_names: Sequence[str],
    *,
    empty: Sequence[str] = (),
    cut: Cut | None = None,
    note: str = "",
) -> list[str]:
    """The classes with their counts, and the sizes of the files, how many have transparency.

    empty: sub-folders that could name a class, if they had images. cut: what becomes of the images,
    to say which of them are odd. note: one more line.
    """
    counts = np.bincount(labels, minlength=len(class_names))
    shown = [f"{name} ({count:,})" for name, count in zip(class_names, counts)]
    more = f", ... {len(shown) - NAMED} more" if len(shown) > NAMED else ""
    classes = f"{len(shown)} classes: {', '.join(shown[:NAMED])}{more}" if shown else _none(files)
    chosen = [files[i] for i in np.unique(np.linspace(0, len(files) - 1, LOOKED_AT).astype(int))]
    found = [f"Found {len(files):,} images; {classes}"]
    if empty:
        found.append(_empty(empty))
    return [*found, *_sizes(root, chosen, len(files), cut), *filter(None, [note])]


def _empty(folders: Sequence[str]) -> str:
    names = ", ".join(folders[:NAMED])
    more = f", ... {len(folders) - NAMED} more" if len(folders) > NAMED else ""
    what = (
        "a sub-folder that has" if len(folders) == 1 else f"{len(folders):,} sub-folders that have"
    )
    return f"No class for {what} no images: {names}{more}"


def _none(files: Sequence[str]) -> str:
    loose = [file for file in files if "/" not in file]
    if not loose or len(loose) == len(files):
        return "no classes"
    if len(loose) == 1:
        return (
            f"no classes, since {loose[0]} lies outside the sub-folders (move it, or leave it out "
            f"with data.exclude={loose[0]})"
        )
    return (
        f"no classes, since {len(loose):,} of them lie outside the sub-folders, such as {loose[0]} "
        f"(move them, or data.exclude={loose[0]} leaves one out)"
    )


def _sizes(root: Path, files: Sequence[str], total: int, cut: Cut | None) -> list[str]:
    """What the headers of these files say; files that cannot be read are the decoder's matter."""
    sizes, transparent, odd = [], 0, Oddities(cut) if cut else None
    for file in files:
        if not (root / file).is_file():  # a pipe would be waited for
            continue
        try:
            with open_image(root / file) as image:
                sizes.append(image.size)
                if odd:
                    odd.see(file, image.size)
                transparent += image.mode in ALPHA or "transparency" in image.info
        except Exception:  # Pillow raises almost anything
            continue
    if not sizes:
        return []
    (least, most) = (end(sizes, key=lambda size: size[0] * size[1]) for end in (min, max))
    span = f"{least[0]}x{least[1]}" + (f" to {most[0]}x{most[1]}" if least != most else "")
    clear = f", {transparent} with transparency" if transparent else ""
    start = f"Of {len(sizes)} looked at" if len(sizes) < total else "Sizes"
    more = "looked at" if len(sizes) < total else "images"
    odd_lines = odd.lines(f"{len(sizes):,} {more}") if odd else []
    return [f"{start}: {span} pixels{clear}", *odd_lines]
