"""Image datasets by the name that `config.data.name` has."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np
from jaxtyping import Int

from diffusion_jax.data import crops, dataset_summary, imagenet, mnist
from diffusion_jax.data.cache import (
    ArraySource,
    Batch,
    CachedSource,
    Description,
    in_memory,
    open_prepared,
    require_split,
)
from diffusion_jax.data.crops import Crop
from diffusion_jax.data.decoder import Decoder
from diffusion_jax.data.folder import find_images, read_folder, select_split
from diffusion_jax.data.folder_options import FolderOptions
from diffusion_jax.data.tfds_source import read_tfds
from diffusion_jax.diffusion.checks import check_bools
from diffusion_jax.files.paths import local_path


@runtime_checkable
class Source(Protocol):
    """A finite, labeled image dataset with random access."""

    class_names: Sequence[str]
    description: Description

    @property
    def labels(self) -> Int[np.ndarray, "size"]:
        """Labels of all images."""
        ...

    def __len__(self) -> int: ...

    def read(self, indices: Int[np.ndarray, "batch"]) -> Batch:
        """Returns the examples with these indices."""
        ...


def read_digits(split: str, data_dir: Path) -> ArraySource:
    """Returns the handwritten digits of scikit-learn, which have the split "all" alone."""
    require_split("digits", split, ["all"])
    from sklearn.datasets import load_digits

    digits = load_digits()
    # Gray levels 0 ... 16, scaled to 0 ... 255.
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)[..., None]
    names = [str(i) for i in range(10)]
    origin = {"files": "sklearn.datasets.load_digits", "crop": "as distributed"}
    return ArraySource(
        Description("digits", split, (8, 8, 1), names, origin), images, digits.target
    )


def read_mnist(split: str, data_dir: Path) -> CachedSource:
    """Opens MNIST as prepared by `scripts.data mnist`."""
    require_split("mnist", split, mnist.COUNTS)
    return open_prepared("mnist", split, data_dir, "scripts.data mnist")


def read_imagenet64(split: str, data_dir: Path) -> CachedSource:
    """Opens ImageNet 64x64 as prepared by `scripts.data imagenet64`."""
    require_split("imagenet64", split, imagenet.COUNTS)
    command = "scripts.data imagenet64 --source FOLDER_OF_THE_ZIPS"
    return open_prepared("imagenet64", split, data_dir, command)


# Datasets with a name of their own: (split, data_dir) -> source.
DATASETS: dict[str, Callable[[str, Path], ArraySource | CachedSource]] = {
    "digits": read_digits,
    "mnist": read_mnist,
    "imagenet64": read_imagenet64,
}


def make_source(
    name: str,
    *,
    split: str,
    data_dir: str | None = None,
    cache_dir: str | None = None,
    channels: int | None = None,
    num_classes: int | None = None,
    resolution: int | None = None,
    crop: str = "center-crop",
    shorter_side: int | None = None,
    load_into_memory: bool = False,
    **folder_options: Any,
) -> Source:
    """Opens a dataset; the arguments are the fields of `config.data`, besides the model's.

    Args:
        name: one of DATASETS, such as "digits", or
            "tfds:NAME", any tfds dataset with an `image` feature, prepared as array_record;
            "folder:PATH", a folder of image files, or a zip archive of them, as EDM has it (splits
            "train", "heldout" and "all");
            "prepared:PATH", a decoded dataset, which may be a copy from another machine.
        data_dir: folder of the datasets; None is `default_data_dir`, or tfds's own default.
        cache_dir: folder where tfds datasets and folders are decoded on first use; None is "cache"
            in data_dir or, without one, in `default_data_dir`.
        channels: 1 (gray) or 3 (RGB); None is 3 for folders, and unchanged for tfds.
        num_classes: required number of classes; None accepts any.
        resolution: side of the square images; None keeps it, for tfds alone.
        crop, shorter_side: see `crops.Crop`; for tfds and folders.
        load_into_memory: load the whole dataset once instead of reading from disk.
        folder_options: fields of `FolderOptions`.

    Raises:
        ValueError: for an argument out of range, an unknown name or split, or a damaged dataset.
        FileNotFoundError: for a dataset that has not been prepared.
    """
    check_bools(load_into_memory=load_into_memory)
    options = FolderOptions(**folder_options)
    stored = Crop(crop, resolution, shorter_side)
    kind, _, rest = name.partition(":")
    if "/" in name and ":" not in name and local_path(name).is_dir():
        raise ValueError(f"data.name={name} is a folder; write folder:{name}")
    if ":" not in name and name.lower().endswith(".zip"):
        raise ValueError(f"data.name={name} is an archive; write folder:{name}")
    if kind != "folder" and (changed := options.changed()):
        raise ValueError(f"data.{changed[0]} is for folders of images; data.name is {name!r}")
    if kind not in ("folder", "tfds") and crop == crops.RANDOM:
        raise ValueError(f"data.crop={crop} is for folders and tfds; data.name is {name!r}")
    datasets = local_path(data_dir or default_data_dir())
    cache = local_path(cache_dir or datasets / "cache")
    if name in DATASETS:
        source = DATASETS[name](split, datasets)
    elif kind == "prepared" and rest:
        source = CachedSource(local_path(rest))
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
            crop=stored,
        )
    elif kind == "folder" and rest:
        listing = find_images(local_path(rest), options)
        source = read_folder(
            select_split(listing, split, cast("float | tuple[str, ...]", options.holdout)),
            split=split,
            decoder=Decoder(
                channels or 3,
                convert=options.convert,
                upright=options.upright,
                srgb=options.srgb,
                bits=options.bits,
            ),
            crop=stored,
            cache_dir=cache,
            num_classes=num_classes,
            skip_broken=options.skip_broken,
        )
    else:
        known = ", ".join([*DATASETS, "tfds:NAME", "folder:PATH", "prepared:PATH"])
        raise ValueError(f"Unknown data.name {name!r}; known names: {known}")
    source.description.require_classes(num_classes)
    dataset_summary.print_once(name, source.description.notes)
    if load_into_memory and isinstance(source, CachedSource):
        return in_memory(source)
    return source


def default_data_dir() -> Path:
    """Returns the default folder of prepared datasets: ~/diffusion_jax_data."""
    return Path.home() / "diffusion_jax_data"
