"""The datasets that `config.data.name` can select."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int

from diffusion_jax.data import crops, imagenet, mnist
from diffusion_jax.data.cache import ArraySource, Batch, CachedSource, Description, in_memory
from diffusion_jax.data.decoder import Decoder
from diffusion_jax.data.folder import find_images, read_folder, split_off
from diffusion_jax.data.preparation import Cut
from diffusion_jax.data.tfds_source import read_tfds


@runtime_checkable
class Source(Protocol):
    """A finite, labeled image dataset with random access."""

    class_names: Sequence[str]
    description: Description
    labels: Int[np.ndarray, "size"]

    def __len__(self) -> int: ...

    def read(self, indices: Int[np.ndarray, "batch"]) -> Batch:
        """The examples with these indices."""
        ...


# What `scripts.data` prepares: its splits, and what its command needs besides.
PREPARED = {
    "imagenet64": (tuple(imagenet.COUNTS), " --source FOLDER_OF_THE_ZIPS"),
    "mnist": (tuple(mnist.COUNTS), ""),
}


def make_source(
    name: str,
    *,
    split: str,
    data_dir: str = "",
    cache_dir: str = "",
    channels: int = 0,
    num_classes: int = 0,
    resolution: int = 0,
    crop: str = "center-crop",
    shorter_side: int = 0,
    include: str = "",
    exclude: str = "",
    labels: str = "auto",
    holdout: str = "",
    convert: bool = False,
    upright: bool = False,
    skip_broken: bool = False,
    load_into_memory: bool = False,
) -> Source:
    """Opens the dataset that a config selects.

    name: "digits", the 1,797 handwritten digits of 8x8 pixels that come with scikit-learn (split
    "all"); "imagenet64" (splits train and validation) and "mnist" (train and test), prepared by
    `scripts.data`;
    "tfds:NAME", any tfds dataset with an `image` feature, prepared as array_record; or
    "folder:PATH", a folder of image files (splits train, heldout, all). The last two are decoded
    into `cache_dir` on first use; "prepared:PATH" opens such a decoded dataset directly, which may
    be a copy from another machine.

    data_dir: the folder of the datasets; "" is `default_data_dir`, or tfds's own default for tfds.
    cache_dir: "" is "cache" in data_dir or, without one, in `default_data_dir`. channels,
    resolution: for tfds and folders; 0 keeps those of the images (resolution: tfds only).
    num_classes: the required number of classes; 0 accepts any. crop, shorter_side: see
    `preparation.Cut`. include, exclude, labels: see `folder.find_images`. holdout: see
    `folder.split_off`. convert, upright: see `decoder.Decoder`. skip_broken: leave out files that
    cannot be read. load_into_memory: load the whole dataset once instead of reading from disk.

    Raises ValueError for an unknown name or split, and FileNotFoundError or ValueError if the
    dataset has not been prepared.
    """
    if crop not in crops.KNOWN:
        raise ValueError(f"Unknown data.crop {crop!r}; known: {', '.join(crops.KNOWN)}")
    if "/" in name and ":" not in name and Path(name).expanduser().is_dir():
        raise ValueError(f"data.name={name} is a folder; write folder:{name}")
    of_folders = {"include": include, "exclude": exclude, "holdout": holdout, "convert": convert}
    of_folders |= {"upright": upright, "skip_broken": skip_broken, "labels": labels != "auto"}
    if not name.startswith("folder:") and any(of_folders.values()):
        option = next(option for option, value in of_folders.items() if value)
        raise ValueError(f"data.{option} is for folders of images; data.name is {name!r}")
    if not name.startswith(("folder:", "tfds:")) and crop == crops.RANDOM:
        raise ValueError(f"data.crop={crop} is for folders and tfds; data.name is {name!r}")
    cut = Cut(crop, resolution, shorter_side)
    cache = Path(cache_dir or Path(data_dir or default_data_dir()) / "cache").expanduser()
    kind, _, rest = name.partition(":")
    if name == "digits":
        source = _digits(split)
        source.description.require_classes(num_classes)
        return source
    if name in PREPARED:
        source = _prepared(name, split, data_dir)
    elif kind == "prepared" and rest:
        source = CachedSource(Path(rest).expanduser())
        if split != source.description.split:
            raise ValueError(f"{rest} is the split {source.description.split} (data.split)")
    elif kind == "tfds" and rest:
        source = read_tfds(
            rest,
            split=split,
            data_dir=data_dir,
            cache_dir=cache,
            channels=channels,
            num_classes=num_classes,
            cut=cut,
        )
    elif kind == "folder" and rest:
        root = Path(rest).expanduser()
        listing = find_images(root, include=include, exclude=exclude, labels=labels)
        decoder = Decoder(channels or 3, convert=convert, upright=upright)
        source = read_folder(
            split_off(listing, split, holdout),
            split=split,
            decoder=decoder,
            cut=cut,
            cache_dir=cache,
            num_classes=num_classes,
            skip_broken=skip_broken,
        )
    else:
        known = "digits, mnist, imagenet64, tfds:NAME, folder:PATH, prepared:PATH"
        raise ValueError(f"Unknown data.name {name!r}; known: {known}")
    source.description.require_classes(num_classes)
    return in_memory(source) if load_into_memory else source


def default_data_dir() -> Path:
    """The default folder of prepared datasets: ~/diffusion_jax_data."""
    return Path.home() / "diffusion_jax_data"


def _prepared(name: str, split: str, data_dir: str) -> CachedSource:
    splits, more = PREPARED[name]
    if split not in splits:
        known = ", ".join(splits)
        raise ValueError(f"{name} has no split {split!r} (data.split); it has: {known}")
    folder = Path(data_dir or default_data_dir()).expanduser() / name / split
    try:
        return CachedSource(folder)
    except FileNotFoundError:
        raise FileNotFoundError(
            f"The split {split} of {name} is not prepared in {folder.parent.parent}; run "
            f"python -m scripts.data {name}{more}, or set data.data_dir"
        ) from None


def _digits(split: str) -> ArraySource:
    if split != "all":
        raise ValueError(f"The digits have one split, 'all'; data.split={split!r} was given")
    from sklearn.datasets import load_digits

    digits = load_digits()
    # Gray levels 0..16, scaled to 0..255.
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)[..., None]
    names = [str(i) for i in range(10)]
    origin = {"files": "sklearn.datasets.load_digits", "crop": "as distributed"}
    return ArraySource(
        Description("digits", split, (8, 8, 1), names, origin), images, digits.target
    )
