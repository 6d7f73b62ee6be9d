"""Prepares datasets for training, and shows what is in them.

python -m scripts.prepare_data imagenet64 --source ~/downloads [--data_dir ~/datasets]
python -m scripts.prepare_data check --name imagenet64 --out check.png

imagenet64: from the zip files of image-net.org, Imagenet64_train_part1.zip, ..._part2.zip and
Imagenet64_val.zip, or the same with _npz. What was done is kept if it is stopped.
check: counts, classes, statistics of the pixels and a picture, of any dataset that training takes.
"""

import json
import shutil
from pathlib import Path

import numpy as np
from absl import flags

from scripts import cli

_SOURCE = flags.DEFINE_string("source", None, "imagenet64: folder of the zip files.")
_DATA_DIR = flags.DEFINE_string(
    "data_dir", "", "Where datasets are kept; default: ~/diffusion_jax_data (tfds: its own)."
)
_SPLIT = flags.DEFINE_string("split", None, "train or validation, say; imagenet64: default both.")
_ANY_COUNT = flags.DEFINE_bool(
    "any_count", False, "imagenet64: accept another number of images than the full dataset has."
)
_NAME = flags.DEFINE_string("name", "imagenet64", "check: the dataset, as in config.data.name.")
_OUT = flags.DEFINE_string("out", "check.png", "check: where the picture goes.")

COMMANDS = ("imagenet64", "check")
LOOKED_AT = 10_000  # images, for the statistics


def main(command: str) -> int:
    return check() if command == "check" else imagenet64()


def imagenet64() -> int:
    from diffusion_jax.data import imagenet
    from diffusion_jax.data.sources import default_data_dir

    if _SOURCE.value is None:
        raise ValueError("--source is missing; for example: --source ~/downloads")
    source = Path(_SOURCE.value).expanduser()
    if not source.is_dir():
        raise ValueError(f"--source={source} is no folder")
    known = tuple(imagenet.COUNTS)
    if _SPLIT.value not in (None, *known):
        raise ValueError(f"--split={_SPLIT.value} is not one of {', '.join(known)}")
    splits = known if _SPLIT.value is None else (_SPLIT.value,)
    data_dir = Path(_DATA_DIR.value or default_data_dir()).expanduser()
    # All that can be told beforehand, before anything is written.
    parts = {split: imagenet.find_parts(source, split) for split in splits}
    todo = {}
    for split in splits:
        folder = data_dir / "imagenet64" / split
        if folder.exists():
            print(f"{folder} is there already.")
        else:
            todo[split] = folder
    for split, folder in todo.items():
        prepare(split, parts[split], folder)
    print(f"Train on it: --config.data.name=imagenet64 --config.data.data_dir={data_dir}")
    return 0


def prepare(split: str, parts: list, folder: Path) -> None:
    """Writes one split; goes on where an earlier attempt was stopped."""
    from tqdm import tqdm

    from diffusion_jax.data import imagenet
    from diffusion_jax.data.cache import CacheWriter, Description

    description = Description(
        name="imagenet64",
        split=split,
        shape=imagenet.SHAPE,
        class_names=imagenet.class_names(),
        origin={"files": "image-net.org, downsampled 64x64", "crop": "as distributed"},
    )
    folder.parent.mkdir(parents=True, exist_ok=True)
    check_space(split, folder.parent)
    with CacheWriter(folder, description) as writer:
        total = None if _ANY_COUNT.value else imagenet.COUNTS[split]
        with tqdm(total=total, initial=writer.rows, unit="image", desc=split) as bar:

            def shown(batches):
                for images, labels in batches:
                    yield images, labels
                    bar.update(len(labels))

            for part in parts:
                if part.name not in writer.done:
                    writer.write(part.name, shown(imagenet.read(part, writer.partial)))
        if not _ANY_COUNT.value and writer.rows != imagenet.COUNTS[split]:
            raise ValueError(
                f"{split} has {writer.rows:,} images in these files, the full dataset "
                f"{imagenet.COUNTS[split]:,}; download the rest, or accept them with --any_count"
            )
        done = writer.finish()
    print(f"{folder}: {done.count:,} images, fingerprint {done.fingerprint[:16]}")


def check_space(split: str, folder: Path) -> None:
    from diffusion_jax.data import imagenet

    # The images, and the temporary copy of the largest pickle.
    needed = 0 if _ANY_COUNT.value else 1.15 * imagenet.COUNTS[split] * np.prod(imagenet.SHAPE)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise ValueError(
            f"{folder} has {free / 1e9:.1f} GB free, and {split} takes {needed / 1e9:.1f} GB; "
            "choose another --data_dir"
        )


def check() -> int:
    from diffusion_jax import images
    from diffusion_jax.data import make_source

    split = _SPLIT.value or ("all" if _NAME.value == "digits" else "train")
    source = make_source(_NAME.value, split=split, data_dir=_DATA_DIR.value)
    count, names = len(source), source.class_names
    looked_at = np.unique(np.linspace(0, count - 1, LOOKED_AT).astype(int))
    batch = source.read(looked_at)
    shape = batch["image"].shape[1:]
    print(f"{_NAME.value}, {split}: {count:,} images of {' x '.join(map(str, shape))}")
    sizes = np.bincount(batch["label"], minlength=len(names))
    shown = f"of {len(looked_at):,} looked at: {sizes.min()} to {sizes.max()} a class"
    print(f"{len(names)} classes, {names[0]} to {names[-1]}; {shown}")
    pixels = batch["image"].astype(np.float64) / 127.5 - 1
    mean, std = pixels.mean((0, 1, 2)), pixels.std((0, 1, 2))
    print(f"In [-1, 1]: mean {np.round(mean, 4).tolist()}, std {np.round(std, 4).tolist()}")
    if hasattr(source, "description"):
        described = {"fingerprint": source.description.fingerprint, **source.description.origin}
        print(json.dumps(described, indent=2))
    rows = np.unique(np.linspace(0, len(names) - 1, 8).astype(int))
    chosen = [np.flatnonzero(batch["label"] == label)[:8] for label in rows]
    grid = np.zeros((len(rows), 8, *shape), np.uint8)
    for row, places in enumerate(chosen):
        grid[row, : len(places)] = batch["image"][places]
    picture = images.grid(grid.reshape(-1, *shape), 8, upscale=max(1, 32 // shape[0]))
    images.save_png(Path(_OUT.value), images.captioned(picture, [names[label] for label in rows]))
    print(f"Picture: {_OUT.value}")
    return 0


if __name__ == "__main__":
    cli.run(main, COMMANDS)
