"""A folder of image files as a dataset: which of them belong to it, and their labels."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from diffusion_jax.data.cache import CachedSource, Description
from diffusion_jax.data.decoder import Decoder
from diffusion_jax.data.preparation import Cut, prepared

LABELS = ("auto", "folders", "parents", "none")
SPLITS = ("train", "heldout", "all")
# Pillow hands EPS to Ghostscript, which runs programs.
NOT_OPENED = {"EPS"}


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
            about = (self.root / self.files[index]).stat()
            text = f"{self.files[index]}\0{self.labels[index]}\0"
            digest.update(os.fsencode(f"{text}{about.st_size}\0{about.st_mtime_ns}\n"))
        return digest.hexdigest()[:16]


def find_images(
    root: Path, *, include: str = "", exclude: str = "", labels: str = "auto"
) -> Listing:
    """All images in a folder and the folders in it; hidden ones are passed over.

    include, exclude: comma-separated patterns such as "*.png" or "*seg*", for the path relative to
    the folder; `*` stands for slashes, too. labels: "folders" takes the names of the sub-folders
    at the top, "parents" those of the folders that hold the files, "none" has no labels, and "auto"
    is folders where all files are in sub-folders, otherwise none.

    Raises FileNotFoundError if there is no folder, ValueError if it has no images.
    """
    if labels not in LABELS:
        raise ValueError(f"Unknown data.labels {labels!r}; known: {', '.join(LABELS)}")
    if not root.is_dir():
        raise FileNotFoundError(f"There is no folder {root} (data.name)")
    known = _extensions()
    files, ignored = [], []
    for path in _walk(root):
        is_image = PurePosixPath(path).suffix.lower() in known
        if not _matches(path, include, default=True) or _matches(path, exclude, default=False):
            continue
        (files if is_image else ignored).append(path)
    if not files:
        more = f"; {len(ignored)} files there are no images, e.g. {ignored[0]}" if ignored else ""
        chosen = f" (include={include!r}, exclude={exclude!r})" if include + exclude else ""
        raise ValueError(f"{root} has no images{chosen}{more}")
    files.sort()
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
    index = {name: number for number, name in enumerate(class_names)}
    return Listing(root, files, [index[name] for name in named], class_names, ignored)


def split_off(listing: Listing, split: str, holdout: str) -> Listing:
    """The part of a listing that a split is.

    holdout: what "heldout" has and "train" has not; "all" has both. A number is a fraction, chosen
    by the files' names, so that files added later move none; anything else are comma-separated
    patterns, as in `find_images`; empty holds nothing out. Raises ValueError if nothing is left.
    """
    if split not in SPLITS:
        raise ValueError(
            f"A folder has no split {split!r} (data.split); it has: {', '.join(SPLITS)}"
        )
    if split == "all":
        return listing
    if split == "heldout" and not holdout:
        raise ValueError(
            "data.split=heldout needs data.holdout: a fraction such as 0.1, or patterns of paths "
            "such as val/*"
        )
    fraction = _as_fraction(holdout)

    def held(file: str) -> bool:
        if fraction is None:
            return _matches(file, holdout, default=False)
        digest = hashlib.sha256(file.encode(errors="surrogateescape")).digest()
        return int.from_bytes(digest[:8], "big") < fraction * 2**64

    kept = [held(file) == (split == "heldout") for file in listing.files]
    files = [file for file, keep in zip(listing.files, kept) if keep]
    if not files:
        raise ValueError(
            f"data.holdout={holdout!r} leaves no images of {listing.root} for data.split={split}"
        )
    labels = [label for label, keep in zip(listing.labels, kept) if keep]
    return Listing(listing.root, files, labels, listing.class_names, listing.ignored)


def _as_fraction(holdout: str) -> float | None:
    try:
        fraction = float(holdout)
    except ValueError:
        return None
    if not 0 < fraction < 1:
        raise ValueError(f"data.holdout={holdout} must be between 0 and 1, or patterns of paths")
    return fraction


def _extensions() -> set[str]:
    known = Image.registered_extensions()
    return {end for end, kind in known.items() if kind in Image.OPEN and kind not in NOT_OPENED}


def _walk(root: Path) -> Iterator[str]:
    """The files below, as relative paths with slashes. Links to folders are followed, once."""
    seen = set()
    for folder, folders, files in os.walk(root, followlinks=True):
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


def _matches(path: str, patterns: str, *, default: bool) -> bool:
    chosen = [pattern.strip() for pattern in patterns.split(",") if pattern.strip()]
    return any(fnmatch(path, pattern) for pattern in chosen) if chosen else default


def read_folder(
    listing: Listing,
    *,
    split: str,
    decoder: Decoder,
    cut: Cut,
    cache_dir: Path,
    skip_broken: bool = False,
) -> CachedSource:
    """The files' pixels, decoded and cut into `cache_dir` the first time.

    Raises ValueError if a file cannot be used, unless skip_broken leaves it out.
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

    def load(index: int) -> tuple[np.ndarray, int]:
        image = np.asarray(cut(decoder(listing.root / listing.files[index])))
        return image.reshape(*image.shape[:2], decoder.channels), listing.labels[index]

    source = prepared(
        cache_dir,
        description,
        len(listing.files),
        load,
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
