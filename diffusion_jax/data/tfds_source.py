"""tfds datasets as array_record: preparation, and reading without TensorFlow."""

import hashlib
import importlib.util
import logging
import string
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from diffusion_jax.data import crops, imagenet
from diffusion_jax.data.cache import CachedSource, Description
from diffusion_jax.data.crops import Crop
from diffusion_jax.data.preparation import open_or_decode
from diffusion_jax.images import to_pil

EMNIST_MERGED = string.digits + string.ascii_uppercase + "abdefghnqrt"
EMNIST_NAMES = {
    "letters": string.ascii_uppercase,
    "byclass": string.digits + string.ascii_uppercase + string.ascii_lowercase,
    "bymerge": EMNIST_MERGED,
    "balanced": EMNIST_MERGED,
    "digits": string.digits,
    "mnist": string.digits,
}


def read_tfds(
    name: str,
    *,
    split: str,
    data_dir: str | None,
    cache_dir: Path,
    channels: int | None,
    num_classes: int | None,
    crop: Crop,
) -> CachedSource:
    """Opens the dataset; on first use, it is decoded into `cache_dir`.

    channels, crop.resolution: None keeps them as in the dataset. Images that already have this
    size are not cropped. num_classes: as in `sources.make_source`. EMNIST is transposed to upright,
    and its letters are labeled from 0. Raises ValueError if the dataset is not prepared or
    unsuitable.
    """
    builder, records = _open(name, split, data_dir)
    height, width, stored_channels = builder.info.features["image"].shape
    depth: int = channels or stored_channels
    resolution = crop.resolution or height
    fitting = height == width == resolution and crop.method != crops.RANDOM
    if not resolution:
        raise ValueError(f"{name} has images of various sizes; set data.resolution")
    crop = replace(crop, resolution=resolution)
    class_names, first_label = _classes(name, builder)
    upright = name.startswith("emnist")
    origin = {"crop": "as distributed"} if fitting else crop.origin()
    description = Description(
        name=f"tfds:{name}",
        split=split,
        shape=crop.shape(depth),
        class_names=class_names,
        origin={"files": builder.info.full_name, **origin},
    )

    description.require_classes(num_classes)
    # Detects another dataset of the same name.
    info = (Path(builder.data_path) / "dataset_info.json").read_bytes()
    state = hashlib.sha256(info).hexdigest()[:16]

    def load(index: int) -> tuple[np.ndarray, int]:
        example = records[index]
        image = example["image"].swapaxes(0, 1) if upright else example["image"]
        if not fitting or depth != image.shape[2]:
            picture = to_pil(np.ascontiguousarray(image)).convert("L" if depth == 1 else "RGB")
            image = np.asarray(picture if fitting else crop(picture))
        label = int(example["label"]) - first_label if class_names else 0
        return image.reshape(*image.shape[:2], depth), label

    return open_or_decode(
        cache_dir,
        description,
        len(records),
        load,
        image_bytes=crop.image_bytes(depth),
        state_of=lambda indices: state,
        name_of=lambda index: f"{name}[{index}]",
    )


def prepare_tfds(name: str, data_dir: Path | None, manual_dir: Path | None = None) -> Path:
    """Prepares a tfds dataset as array_record, unless it is prepared, and returns its folder.

    manual_dir: folder of files downloaded by hand. Raises ValueError if TensorFlow is missing, or
    if tfds has no such dataset or cannot prepare it.
    """
    for module in ("tensorflow", "importlib_resources"):
        if importlib.util.find_spec(module) is None:
            raise ValueError(
                f"Preparing a tfds dataset needs {module}: pip install -r requirements-tfds.txt"
            )
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError

    folder = None if data_dir is None else str(data_dir)
    try:
        builder = tfds.builder(name, data_dir=folder, file_format="array_record")
    except tfds.core.DatasetNotFoundError:
        raise ValueError(f"tfds has no dataset {name!r} (--name)") from None
    manual = None if manual_dir is None else str(manual_dir.resolve())
    try:
        builder.download_and_prepare(
            download_config=tfds.download.DownloadConfig(manual_dir=manual)
        )
    except (tfds.download.DownloadError, NonMatchingChecksumError) as error:
        raise ValueError(f"tfds cannot prepare {name}: {error}") from None
    return Path(builder.data_path)


def _open(name: str, split: str, data_dir: str | None) -> tuple[Any, Any]:
    import tensorflow_datasets as tfds

    with _quiet():
        try:
            builder = tfds.builder(name, data_dir=data_dir)
        except (tfds.core.DatasetNotFoundError, ValueError, AssertionError) as error:
            # tfds lists all versions and configurations in many lines.
            reason = f"{error}".strip().splitlines()[0]
            raise ValueError(f"tfds has no dataset {name!r} (data.name): {reason[:300]}") from None
        if not builder.is_prepared():
            raise ValueError(
                f"The tfds dataset {name!r} is not prepared in {builder.data_path}; set "
                f"data.data_dir to the folder that holds it, or prepare it: {_command(name)}"
            )
        if split not in builder.info.splits:
            known = ", ".join(builder.info.splits)
            raise ValueError(f"{name!r} has no split {split!r} (data.split); it has: {known}")
        if builder.info.file_format != tfds.core.file_adapters.FileFormat.ARRAY_RECORD:
            raise ValueError(
                f"{builder.data_path} is in {builder.info.file_format.value} format; prepare it "
                "again with file_format='array_record', which allows random access"
            )
        image: Any = dict(builder.info.features.items()).get("image")
        if not isinstance(image, tfds.features.Image) or image.np_dtype != np.uint8:
            known = ", ".join(builder.info.features)
            raise ValueError(f"{name!r} has no 8-bit `image`; its features: {known}")
        if image.shape[-1] not in (1, 3):
            raise ValueError(
                f"{name!r} has images of {image.shape[-1]} channels; 1 or 3 are supported"
            )
        records = builder.as_data_source(split=split)
        records[0]  # the first decoding emits the warnings
    return builder, records


def _command(name: str) -> str:
    """Returns the command that prepares a dataset."""
    if name.startswith("imagenet_resized/64x64"):
        return "python -m scripts.data imagenet64 --tfds --source FOLDER_OF_THE_ZIPS"
    return f"python -m scripts.data tfds --name {name}"


def _classes(name: str, builder: Any) -> tuple[list[str], int]:
    """Returns (class names, label of the first class); no names if there are no labels."""
    features = builder.info.features
    names = getattr(features["label"], "names", None) if "label" in features else None
    if name.startswith("imagenet_resized"):
        return imagenet.class_names(), 0  # tfds has their WordNet ids, in the same order
    if name.startswith("emnist"):
        config = builder.builder_config.name
        return list(EMNIST_NAMES[config]), int(config == "letters")
    return list(names or ()), 0


@contextmanager
def _quiet() -> Iterator[None]:
    """Mutes tfds, which suggests OpenCV for decoding and warns about folders checked here."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
