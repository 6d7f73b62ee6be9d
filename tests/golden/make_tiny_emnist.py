"""Rebuild tests/golden/tfds/emnist: a tiny `emnist/letters` in the exact tfds on-disk format.

26 capital letters in Pillow's own font, stored as EMNIST stores its images (28x28, rows and columns
exchanged) with its labels, 1 to 26, by the stock tfds builder. The bytes may differ between runs,
the decoded examples do not.

Writing needs TensorFlow; reading the result does not. Python 3.12:

    pip install tensorflow-cpu tensorflow-datasets importlib-resources pillow
    python tests/golden/make_tiny_emnist.py
"""

import pathlib
import shutil
import string
import tempfile

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image, ImageDraw, ImageFont

NAME = "emnist/letters"
TARGET = pathlib.Path(__file__).resolve().parent / "tfds"


def letter(text: str) -> np.ndarray:
    """White on black, (28, 28, 1), upright."""
    image = Image.new("L", (28, 28))
    font = ImageFont.load_default(size=22)
    ImageDraw.Draw(image).text((14, 14), text, fill=255, font=font, anchor="mm")
    return np.asarray(image)[..., None]


def examples():
    for label, text in enumerate(string.ascii_uppercase, 1):
        yield text, {"image": letter(text).swapaxes(0, 1), "label": label}


def main() -> None:
    """Build the dataset in a temporary directory and copy the result here."""
    with tempfile.TemporaryDirectory() as data_dir:
        builder = tfds.builder(NAME, data_dir=data_dir, file_format="array_record")
        builder._split_generators = lambda manager: {"train": examples()}
        builder.download_and_prepare(download_config=tfds.download.DownloadConfig(num_shards=1))
        shutil.copytree(pathlib.Path(data_dir, NAME), TARGET / NAME, dirs_exist_ok=True)


if __name__ == "__main__":
    main()
