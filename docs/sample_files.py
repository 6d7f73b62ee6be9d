"""Small stand-ins for the files and datasets that the documentation names."""

import json
import shutil
from pathlib import Path

import numpy as np
from imagenet_zips import make_zips
from PIL import Image
from sklearn.datasets import load_digits

from diffusion_jax.data.cache import Description
from diffusion_jax.data.cache_writer import CacheWriter
from diffusion_jax.files import torch_writer

GOLDEN = Path(__file__).resolve().parent.parent / "tests" / "golden"
# Networks of `tests/golden/adm.npz` in the files of OpenAI.
OPENAI = {
    "64x64_diffusion.pt": "new",
    "64x64_classifier.pt": "attention",
    "128_512_upsampler.pt": "super",
}


def write(folder: Path) -> None:
    """Writes all of them; the folder is the home of its pages, too."""
    rng = np.random.default_rng(0)
    write_pictures(folder, rng)
    write_published(folder, rng)
    make_zips(folder / "Downloads", npz=True, largest_label=1000)
    shutil.copytree(GOLDEN / "tfds", folder / "tensorflow_datasets")
    classes = [str(digit) for digit in range(10)]
    description = Description("mnist", "train", (16, 16, 1), classes, {"files": "random"})
    path = folder / "diffusion_jax_data" / "mnist" / "train"
    with CacheWriter(path, description, ["all"]) as writer:
        images = rng.integers(256, size=(40, 16, 16, 1), dtype=np.uint8)
        writer.write("all", [(images, np.arange(40) % 10)])
        writer.finish()


def write_pictures(folder: Path, rng: np.random.Generator) -> None:
    digits = load_digits()
    for label in (3, 8):
        image = digits.images[list(digits.target).index(label)] * 15.9
        Image.fromarray(image.astype(np.uint8)).save(folder / f"{label}.png")
    Image.fromarray(np.tile(np.uint8([0, 255]).repeat(4), (8, 1))).save(folder / "mask.png")
    random = rng.integers(256, size=(12, 72, 80, 3), dtype=np.uint8)
    Image.fromarray(random[0, :8, :8]).save(folder / "small.png")
    for index, image in enumerate(random):
        path = folder / "photos" / ("cats", "dogs")[index % 2] / f"{index}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)


def write_published(folder: Path, rng: np.random.Generator) -> None:
    """Writes networks with random weights and a reference with random statistics."""
    shapes = np.load(GOLDEN / "adm.npz")
    for file, network in OPENAI.items():
        state = {
            # With the classes of ImageNet in place of five.
            name: rng.normal(0, 0.1, [1000 if side == 5 else side for side in shape])
            for name, shape in json.loads(str(shapes[f"{network}_shapes"]))
        }
        arrays = {name: array.astype(np.float32) for name, array in state.items()}
        torch_writer.write(folder / file, arrays)
    shutil.copy(GOLDEN / "rrdbnet" / "tiny.pth", folder / "RealESRGAN_x4plus.pth")
    pixels = rng.uniform(0, 255, (100, 16 * 16 * 3))
    statistics = {"mu": pixels.mean(0), "sigma": np.cov(pixels, rowvar=False)}
    about = np.array(json.dumps({"features": "pixels"}))
    np.savez(folder / "VIRTUAL_imagenet64_labeled.npz", about=about, **statistics)
