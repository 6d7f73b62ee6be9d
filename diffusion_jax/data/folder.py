"""Folders of image files as datasets: file selection, labels and splits."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from diffusion_jax.data import dataset_summary
from diffusion_jax.data import left_out as left_out_files
from diffusion_jax.data.cache import CachedSource, Description
from diffusion_jax.data.crops import Crop
from diffusion_jax.data.decoder import DEEP_BITS, Decoder, formats
from diffusion_jax.data.file_tree import FileTree, open_tree
from diffusion_jax.data.folder_labels import label_images
from diffusion_jax.data.folder_options import DEFAULT_OPTIONS, FolderOptions
from diffusion_jax.data.image_warnings import ImageWarnings
from diffusion_jax.data.left_out import LeftOut
from diffusion_jax.data.pixel_notes import PixelNotes
from diffusion_jax.data.preparation import open_or_decode

SPLITS = ("train", "heldout", "all")
SPLIT_NAMES = {"train", "training", "test", "testing", "val", "valid", "validate", "validation"}


@dataclass(frozen=True)
class Listing:
    """Sorted images of a dataset, as paths relative to its folder or archive, and their labels.

    left_out: paths by the reason why they are no part of the dataset. empty: sub-folders that would
    name a class if they had images. label_source: the file that the labels come from, or "". note:
    lines about links that lead out of the folder and about labels, or "".
    """

    tree: FileTree
    files: list[str]
    labels: list[int]
    class_names: list[str]
    left_out: LeftOut
    empty: Sequence[str] = ()
    label_source: str = ""
    note: str = ""

    @property
    def root(self) -> Path:
        """The folder or archive."""
        return self.tree.root

    def state(self, indices: range) -> str:
        """Returns a digest of the names, labels and states (`FileTree.state`) of some files."""
        digest = hashlib.sha256()
        for index in indices:
            file, label = self.files[index], self.labels[index]
            digest.update(os.fsencode(f"{file}\0{label} {self.tree.state(file)}\n"))
        return digest.hexdigest()[:16]


def find_images(root: Path, options: FolderOptions = DEFAULT_OPTIONS) -> Listing:
    """Lists the images in a folder and its sub-folders, or in a zip archive, and their labels.

    Hidden files and folders are ignored. Raises FileNotFoundError if the folder does not exist,
    and ValueError if it has no images, if a pattern matches no file, or if the labels cannot be
    read.
    """
    include, exclude = options.include, options.exclude
    tree = open_tree(root)
    known, found = _extensions(), tree.names
    included = _matching(found, include, "data.include") if include else found
    excluded = set(_matching(found, exclude, "data.exclude")) if exclude else set()
    chosen = [path for path in included if path not in excluded]
    files = [path for path in chosen if PurePosixPath(path).suffix.lower() in known]
    ignored = [path for path in chosen if PurePosixPath(path).suffix.lower() not in known]
    if not files:
        more = f"; {len(ignored)} files there are no images, e.g. {ignored[0]}" if ignored else ""
        chosen_by = {"data.include": include, "data.exclude": exclude}
        words = [f"{name}={','.join(patterns)}" for name, patterns in chosen_by.items() if patterns]
        given = f" ({', '.join(words)})" if words else ""
        raise ValueError(f"{root} has no images{given}{more}")
    full = [path for path in found if PurePosixPath(path).suffix.lower() in known]
    # Patterns that select images do not select the files with their labels.
    others = sorted(set(found) - set(full) - excluded)
    labels = label_images(tree, files, others, options.labels)
    left_out = {
        **tree.left_out,
        left_out_files.INCLUDE: sorted(set(found) - set(included) - set(labels.read)),
        left_out_files.EXCLUDE: sorted(excluded & set(included)),
        **left_out_files.by_extension(sorted(set(ignored) - set(labels.read))),
    }
    empty = [] if labels.source else _empty(tree.folders, full, options.labels)
    return Listing(
        tree,
        files,
        labels.numbers,
        labels.class_names,
        left_out,
        empty if labels.class_names else [],
        labels.source,
        "\n".join([*tree.notes, *labels.notes]),
    )


def _empty(folders: Sequence[str], files: Sequence[str], labels: str) -> list[str]:
    """Returns the folders that would name a class, but contain none of the files."""
    if labels != "parents":
        full = {file.split("/")[0] for file in files}
        return sorted(path for path in folders if "/" not in path and path not in full)
    full = {file.rpartition("/")[0] for file in files}
    upper = {path.rpartition("/")[0] for path in folders}
    return sorted(path for path in folders if path not in full | upper)


def select_split(listing: Listing, split: str, holdout: float | tuple[str, ...]) -> Listing:
    """Returns the files of one split: "train", "heldout" or "all", which is both.

    holdout: as in `FolderOptions`. A fraction is selected by a hash of the file names, so that
    adding files does not move others between the splits. Raises ValueError for an unknown split,
    for a split without files, and for "heldout" without a holdout.
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
            f"data.holdout={_text(holdout)} leaves no images of {listing.root} for "
            f"data.split={split}"
        )
    labels = [label for label, keep in zip(listing.labels, kept) if keep]
    return replace(listing, files=files, labels=labels)


def _text(holdout: float | tuple[str, ...]) -> str:
    return ",".join(holdout) if isinstance(holdout, tuple) else str(holdout)


def _held_out(files: Sequence[str], holdout: float | tuple[str, ...]) -> set[str]:
    if isinstance(holdout, tuple):
        return set(_matching(files, holdout, "data.holdout"))

    def position(file: str) -> int:
        return int.from_bytes(hashlib.sha256(os.fsencode(file)).digest()[:8], "big")

    return {file for file in files if position(file) < holdout * 2**64}


def _matching(paths: Sequence[str], patterns: Sequence[str], option: str) -> list[str]:
    """Returns the paths that match at least one pattern.

    Raises ValueError for a pattern without a match, which is most likely a typing error.
    """
    found = set()
    for pattern in patterns:
        fitting = [path for path in paths if fnmatchcase(path, pattern)]
        if not fitting:
            example = f", such as {paths[0]}" if paths else ""
            raise ValueError(f"{option}: {pattern!r} matches none of the files{example}")
        found.update(fitting)
    return [path for path in paths if path in found]


def _extensions() -> set[str]:
    known = Image.registered_extensions()
    return {end for end, kind in known.items() if kind in formats()}


def read_folder(
    listing: Listing,
    *,
    split: str,
    decoder: Decoder,
    crop: Crop,
    cache_dir: Path,
    num_classes: int | None = None,
    skip_broken: bool = False,
) -> CachedSource:
    """Opens the dataset; on first use, the files are decoded and cropped into `cache_dir`.

    num_classes: as in `sources.make_source`. skip_broken: leave out files that cannot be used;
    otherwise they raise ValueError.
    """
    if crop.resolution is None:
        raise ValueError("Images from a folder need a size; set data.resolution")
    if decoder.channels not in (1, 3):
        raise ValueError(
            f"model.channels={decoder.channels}: images of a folder are read as gray (1) or RGB "
            "(3); set model.channels=3, and data.convert=True to composite transparency on white"
        )
    if line := left_out_files.line(listing.left_out):
        print(line)
    origin = {"files": f"folder {listing.root.resolve().name}", **crop.origin()}
    if listing.label_source:
        origin["labels"] = listing.label_source
    settings = {"convert": decoder.convert, "upright": decoder.upright, "srgb": decoder.srgb}
    origin |= {name: "yes" for name, is_on in settings.items() if is_on}
    if decoder.bits != DEEP_BITS:
        origin["bits"] = str(decoder.bits)
    description = Description(
        name=f"folder:{listing.root.resolve().name}",
        split=split,
        shape=crop.shape(decoder.channels),
        class_names=listing.class_names,
        origin=origin,
        left_out=left_out_files.counts(listing.left_out),
    )

    summary = dataset_summary.lines(
        listing.root,
        listing.files,
        listing.labels,
        listing.class_names,
        empty=listing.empty,
        crop=crop,
        note=listing.note,
        label_source=listing.label_source,
        tree=listing.tree,
    )
    dataset_summary.print_once(str(listing.root.resolve()), summary)
    description.require_classes(num_classes)
    if listing.class_names and {name.lower() for name in listing.class_names} <= SPLIT_NAMES:
        names = ", ".join(listing.class_names)
        print(
            f"The classes are {names}: if these are splits, set data.labels=parents or "
            "none, and data.holdout"
        )

    image_warnings, notes = ImageWarnings(crop), PixelNotes(listing.root)
    with listing.tree.reader() as open_file:

        def load(index: int) -> tuple[np.ndarray, int]:
            file = listing.files[index]

            def check_and_crop(image: Image.Image) -> Image.Image:
                image_warnings.add(file, image.size)
                return crop(image)

            decode = replace(decoder, then=check_and_crop, notes=notes)
            content = open_file(file)
            member = () if isinstance(content, Path) else (content,)
            image = np.asarray(decode(listing.root / file, *member))
            return image.reshape(*image.shape[:2], decoder.channels), listing.labels[index]

        source = open_or_decode(
            cache_dir,
            description,
            len(listing.files),
            load,
            image_bytes=crop.image_bytes(decoder.channels),
            state_of=listing.state,
            name_of=listing.files.__getitem__,
            skip_broken=skip_broken,
            notes=notes,
        )
    # As the folder is now, which may differ from the time of decoding.
    source.description = replace(source.description, left_out=description.left_out)
    if len(listing.files) > dataset_summary.SAMPLE:  # the summary covers only some of them
        for line in image_warnings.lines("the images decoded now"):
            print(line)
    return source
