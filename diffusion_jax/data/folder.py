"""A folder of image files as a dataset: which of them belong to it, and their labels."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from diffusion_jax.data.cache import CachedSource, Description
from diffusion_jax.data.decoder import Decoder, formats
from diffusion_jax.data.preparation import Cut, prepared

LABELS = ("auto", "folders", "parents", "none")
SPLITS = ("train", "heldout", "all")
SPLIT_NAMES = {"train", "training", "test", "testing", "val", "valid", "validate", "validation"}


@dataclass(frozen=True)
class Listing:
    """The files of a dataset, sorted, as paths relative to its folder, and their labels.

    ignored: files whose names are not those of images.
    """

    root: Path
    files: list[str]
    labels: list[int]
    class_names: list[str]
    ignored: list[str]

    def state(self, indices: range) -> str:
        """Changes when one of these files is another one, or has changed (by its size and time)."""
        digest = hashlib.sha256()
        for index in indices:
            try:
                found = (self.root / self.files[index]).stat()
                about = f"{found.st_size} {found.st_mtime_ns}"
            except OSError as error:  # a broken link; the decoder says so
                about = str(error.errno)
            digest.update(os.fsencode(f"{self.files[index]}\0{self.labels[index]} {about}\n"))
        return digest.hexdigest()[:16]


def find_images(
    root: Path, *, include: str = "", exclude: str = "", labels: str = "auto"
) -> Listing:
    """All images in a folder and the folders in it; hidden ones are passed over.

    include, exclude: comma-separated patterns such as "*.png" or "*seg*", for the path relative to
    the folder; `*` stands for slashes, too, and each has to match something. labels: "folders"
    takes the names of the sub-folders at the top, "parents" those of the folders that hold the
    files, "none" has no labels, and "auto" is folders where all files are in sub-folders, otherwise
    none.

    Raises FileNotFoundError if there is no folder, ValueError if it has no images.
    """
    if labels not in LABELS:
        raise ValueError(f"Unknown data.labels {labels!r}; known: {', '.join(LABELS)}")
    if not root.is_dir():
        raise FileNotFoundError(f"There is no folder {root} (data.name)")
    known, found = _extensions(), sorted(_walk(root))
    chosen = found
    if include:
        chosen = matching(found, include, "data.include")
    if exclude:
        left_out = set(matching(found, exclude, "data.exclude"))
        chosen = [path for path in chosen if path not in left_out]
    files = [path for path in chosen if PurePosixPath(path).suffix.lower() in known]
    ignored = [path for path in chosen if PurePosixPath(path).suffix.lower() not in known]
    if not files:
        more = f"; {len(ignored)} files there are no images, e.g. {ignored[0]}" if ignored else ""
        words = f" (include={include!r}, exclude={exclude!r})" if include + exclude else ""
        raise ValueError(f"{root} has no images{words}{more}")
    loose = [file for file in files if "/" not in file]
    if labels == "auto":
        labels = "none" if loose else "folders"
    if labels == "none":
        return Listing(root, files, [0] * len(files), [], ignored)
    if loose:
        raise ValueError(
            f"{root / loose[0]} is in no sub-folder that could name its class; move it, or set "
            "data.labels=none"
        )
    level = 0 if labels == "folders" else -2
    named = [file.split("/")[level] for file in files]
    class_names = sorted(set(named))
    for name in class_names:
        if not name.isprintable():
            raise ValueError(f"{root} has a sub-folder {name!a}, which cannot name a class")
    index = {name: number for number, name in enumerate(class_names)}
    return Listing(root, files, [index[name] for name in named], class_names, ignored)


def split_off(listing: Listing, split: str, holdout: str) -> Listing:
    """The part of a listing that a split is.

    holdout: what "heldout" has and "train" has not; "all" has both. A number is a fraction, chosen
    by the files' names, so that files added later move none; anything else are comma-separated
    patterns, as in `find_images`; empty holds nothing out. Raises ValueError if nothing is left, or
    nothing held out.
    """
    if split not in SPLITS:
        raise ValueError(
            f"A folder has no split {split!r} (data.split); it has: {', '.join(SPLITS)}"
        )
    if split == "heldout" and not holdout:
        raise ValueError(
            "data.split=heldout needs data.holdout: a fraction such as 0.1, or patterns of paths "
            "such as val/*"
        )
    held = _held_out(listing.files, holdout) if holdout else set()
    if split == "all":
        return listing
    kept = [(file in held) == (split == "heldout") for file in listing.files]
    files = [file for file, keep in zip(listing.files, kept) if keep]
    if not files:
        raise ValueError(
            f"data.holdout={holdout!r} leaves no images of {listing.root} for data.split={split}"
        )
    labels = [label for label, keep in zip(listing.labels, kept) if keep]
    return Listing(listing.root, files, labels, listing.class_names, listing.ignored)


def _held_out(files: Sequence[str], holdout: str) -> set[str]:
    try:
        fraction = float(holdout)
    except ValueError:
        return set(matching(files, holdout, "data.holdout"))
    if not 0 < fraction < 1:
        raise ValueError(f"data.holdout={holdout} must be between 0 and 1, or patterns of paths")

    def place(file: str) -> int:
        return int.from_bytes(hashlib.sha256(os.fsencode(file)).digest()[:8], "big")

    return {file for file in files if place(file) < fraction * 2**64}


def matching(paths: Sequence[str], patterns: str, option: str) -> list[str]:
    """The paths that match one of some comma-separated patterns.

    Raises ValueError for a pattern that none matches: most likely a slip of the pen.
    """
    found = set()
    for pattern in filter(None, map(str.strip, patterns.split(","))):
        fitting = [path for path in paths if fnmatchcase(path, pattern)]
        if not fitting:
            example = f"; their paths are such as {paths[0]}" if paths else ""
            raise ValueError(f"{option}: {pattern!r} matches none of the files{example}")
        found.update(fitting)
    return [path for path in paths if path in found]


def _extensions() -> set[str]:
    known = Image.registered_extensions()
    return {end for end, kind in known.items() if kind in formats()}


def _walk(root: Path) -> Iterator[str]:
    """The files below, as relative paths with slashes. Links to folders are followed, once."""
    seen = set()

    def fail(error: OSError) -> None:
        raise error

    for folder, folders, files in os.walk(root, onerror=fail, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        relative = Path(folder).relative_to(root)
        for name in files:
            if not name.startswith("."):
                yield (relative / name).as_posix()


def read_folder(
    listing: Listing,
    *,
    split: str,
    decoder: Decoder,
    cut: Cut,
    cache_dir: Path,
    num_classes: int = 0,
    skip_broken: bool = False,
) -> CachedSource:
    """The files' pixels, decoded and cut into `cache_dir` the first time.

    num_classes: as in `sources.make_source`. Raises ValueError if a file cannot be used, unless
    skip_broken leaves it out.
    """
    if not cut.resolution:
        raise ValueError("Images from a folder need a size; set data.resolution")
    if listing.ignored:
        print(f"Passed over, by its name no image: {_first_of(listing.ignored)}")
    origin = {"files": f"folder {listing.root.resolve().name}", **cut.origin()}
    settings = {"convert": decoder.convert, "upright": decoder.upright}
    description = Description(
        name=f"folder:{listing.root.resolve().name}",
        split=split,
        shape=cut.shape(decoder.channels),
        class_names=listing.class_names,
        origin=origin | {name: "yes" for name, is_on in settings.items() if is_on},
    )

    description.require_classes(num_classes)
    if listing.class_names and {name.lower() for name in listing.class_names} <= SPLIT_NAMES:
        names = ", ".join(listing.class_names)
        print(
            f"The classes are {names}: if these are parts of the data, set data.labels=parents or "
            "none, and data.holdout"
        )

    def load(index: int) -> tuple[np.ndarray, int]:
        image = np.asarray(cut(decoder(listing.root / listing.files[index])))
        return image.reshape(*image.shape[:2], decoder.channels), listing.labels[index]

    source = prepared(
        cache_dir,
        description,
        len(listing.files),
        load,
        image_bytes=cut.image_bytes(decoder.channels),
        state_of=listing.state,
        name_of=listing.files.__getitem__,
        skip_broken=skip_broken,
    )
    if decoder.turned and not decoder.upright:
        print(
            f"Used as stored, though an EXIF entry turns it: {_first_of(decoder.turned)}; "
            "data.upright=True follows these entries"
        )
    return source


def _first_of(files: Sequence[str | Path]) -> str:
    return f"{files[0]}" + (f" and {len(files) - 1} more" if len(files) > 1 else "")
