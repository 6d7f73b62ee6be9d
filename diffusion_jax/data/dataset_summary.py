"""Summary of an image folder in a few lines, before anything is decoded."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from diffusion_jax.data.crops import Crop
from diffusion_jax.data.decoder import ALPHA, open_image
from diffusion_jax.data.file_tree import FileTree, FolderTree
from diffusion_jax.data.image_warnings import ImageWarnings

SAMPLE = 200  # files whose headers are read
NAMED = 10  # classes that are listed

_PRINTED: set[tuple[str, ...]] = set()


def print_once(name: str, summary: Sequence[str]) -> None:
    """Prints lines about a dataset, once for each dataset and process."""
    key = (name, *summary)
    if summary and key not in _PRINTED:
        print(*summary, sep="\n")
    _PRINTED.add(key)


def lines(
    root: Path,
    files: Sequence[str],
    labels: Sequence[int],
    class_names: Sequence[str],
    *,
    empty: Sequence[str] = (),
    crop: Crop | None = None,
    note: str = "",
    label_source: str = "",
    tree: FileTree | None = None,
) -> list[str]:
    """Returns lines on the classes with their counts, and on sizes and transparency of the files.

    empty: sub-folders that would name a class if they had images. crop: for warnings about images
    that it changes much. note: further lines. label_source: the file with the labels, or "". tree:
    of the files; None for a folder.
    """
    counts = np.bincount(labels, minlength=len(class_names))
    texts = [f"{name} ({count:,})" for name, count in zip(class_names, counts)]
    more = f", ... {len(texts) - NAMED} more" if len(texts) > NAMED else ""
    of = f"classes of {label_source}" if label_source else "classes"
    classes = f"{len(texts)} {of}: {', '.join(texts[:NAMED])}{more}" if texts else _none(files)
    chosen = [files[int(i)] for i in np.unique(np.linspace(0, len(files) - 1, SAMPLE).astype(int))]
    found = [f"Found {len(files):,} images; {classes}"]
    if empty:
        found.append(_empty(empty))
    return [
        *found,
        *_sizes(tree or FolderTree(root), chosen, len(files), crop),
        *filter(None, [note]),
    ]


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


def _sizes(tree: FileTree, files: Sequence[str], total: int, crop: Crop | None) -> list[str]:
    """Returns lines on the headers of some files, without those that cannot be read."""
    sizes, transparent = [], 0
    image_warnings = ImageWarnings(crop) if crop else None
    with tree.reader() as open_file:
        for file in files:
            try:
                content = open_file(file)
                if isinstance(content, Path) and not content.is_file():
                    continue  # a pipe would be waited for
                with open_image(content) as image:
                    sizes.append(image.size)
                    if image_warnings:
                        image_warnings.add(file, image.size)
                    transparent += image.mode in ALPHA or "transparency" in image.info
            except Exception:  # Pillow raises almost anything
                continue
    if not sizes:
        return []
    (least, most) = (end(sizes, key=lambda size: size[0] * size[1]) for end in (min, max))
    span = f"{least[0]}x{least[1]}" + (f" to {most[0]}x{most[1]}" if least != most else "")
    clear = f", {transparent} with transparency" if transparent else ""
    start = f"Sizes of {len(sizes)} sampled" if len(sizes) < total else "Sizes"
    of = f"{len(sizes):,} {'sampled' if len(sizes) < total else 'images'}"
    return [f"{start}: {span} pixels{clear}", *(image_warnings.lines(of) if image_warnings else ())]
