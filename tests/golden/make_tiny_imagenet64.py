"""Rebuild tests/golden/tfds: a tiny `imagenet_resized/64x64` in the exact tfds on-disk format.

The directory holds 24 training and 8 validation images, one array_record shard per split. They are
64x64 crops of the two photographs that scikit-learn ships (china.jpg and flower.jpg, CC BY 2.0),
packed into stand-ins for the ImageNet64 archives and converted by the stock tfds builder. Stored
labels are 0..11 in training (two images each) and eight of these in validation. array_record files
grow in 64 KiB steps, so the crops are blurred and posterized until a split fits into one step.
The bytes may differ between runs (protobuf map order), the decoded examples do not.

Writing needs TensorFlow; reading the result does not. Python 3.12:

    pip install tensorflow-cpu tensorflow-datasets importlib-resources scikit-learn pillow
    python tests/golden/make_tiny_imagenet64.py
"""

import io
import pathlib
import shutil
import tempfile
import zipfile

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image, ImageFilter, ImageOps
from sklearn.datasets import load_sample_images
from tensorflow_datasets.core.download import checksums

NAME, SIZE = "imagenet_resized/64x64", 64
TARGET = pathlib.Path(__file__).resolve().parent / "tfds"


def make_crops() -> np.ndarray:
    """Cut each photograph into a 4x4 grid of crops: (photographs, rows, columns, 64, 64, 3)."""
    crops = []
    for photo in map(Image.fromarray, load_sample_images().images):
        for cell in range(16):
            side = (64, 80, 96, 112)[cell % 4]
            top = cell // 4 * (photo.height - side) // 3
            left = cell % 4 * (photo.width - side) // 3
            box = (left, top, left + side, top + side)
            crop = photo.resize((SIZE, SIZE), Image.Resampling.BOX, box)
            smooth = crop.filter(ImageFilter.GaussianBlur(0.8))
            crops.append(np.asarray(ImageOps.posterize(smooth, 5)))
    return np.stack(crops).reshape(2, 4, 4, SIZE, SIZE, 3)


def write_zip(path: pathlib.Path, member: str, images: np.ndarray, labels: np.ndarray) -> None:
    """Write one archive like the original ones: flat channel-first rows and 1-based labels."""
    buffer = io.BytesIO()
    np.savez(buffer, data=images.transpose(0, 3, 1, 2).reshape(len(images), -1), labels=labels)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(zipfile.ZipInfo(member), buffer.getvalue())


def main() -> None:
    """Build the archives and the dataset in a temporary directory and copy the result here."""
    crops = make_crops()
    train, validation = (x.reshape(-1, SIZE, SIZE, 3) for x in (crops[:, :, :3], crops[:, :, 3]))
    train_labels = np.arange(24) // 2 + 1
    with tempfile.TemporaryDirectory() as data_dir:
        manual = pathlib.Path(data_dir, "downloads", "manual")
        manual.mkdir(parents=True)
        for name, member, images, labels in (
            ("train_part1", "train_data_batch_1", train[:12], train_labels[:12]),
            ("train_part2", "train_data_batch_2", train[12:], train_labels[12:]),
            ("val", "val_data", validation, train_labels[::3]),
        ):
            write_zip(manual / f"Imagenet64_{name}_npz.zip", f"{member}.npz", images, labels)

        builder = tfds.builder(NAME, data_dir=data_dir, file_format="array_record")
        url_infos = type(builder).url_infos  # Cached on the class: accept the stand-ins' checksums.
        for url, info in url_infos.items():
            if (manual / info.filename).exists():
                url_infos[url] = checksums.compute_url_info(manual / info.filename)
        builder.download_and_prepare(download_config=tfds.download.DownloadConfig(num_shards=1))
        shutil.copytree(pathlib.Path(data_dir, NAME), TARGET / NAME, dirs_exist_ok=True)


if __name__ == "__main__":
    main()
