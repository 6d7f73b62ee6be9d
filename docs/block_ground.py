"""What the pages of the documentation expect to be there, made small: files, datasets and runs."""

import io
import json
import shutil
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = ROOT / "tests" / "golden"

# Runs, and the commands that make them. A transformer compiles in a fifth of the time.
TRAIN = "python -m scripts.train --config configs/digits.py:dit --config.checkpoint_every=1 "
RUNS = {
    "runs/digits": TRAIN + "--config.sample_every=2 --config.sampling.steps=20",
    "runs/res_res": TRAIN + "--config.data.name=tfds:imagenet_resized/64x64 "
    "--config.data.split=train --config.data.resolution=64 --config.model.patch_size=16 "
    "--config.model.channels=3 --config.model.num_classes=1000",
    "runs/edm2": TRAIN + "--config.average=power --config.averages.power.second_sigma_rel=0.1",
    "runs/adm64": "python -m scripts.convert --from openai --model 64x64_diffusion.pt",
    "runs/adm_128_512": "python -m scripts.convert --from openai --config configs/adm_128_512.py "
    "--model 128_512_upsampler.pt --config.model.low_resolution=8 --config.model.multipliers=1,1 "
    "--config.model.head_channels=32",
}
# Runs that are copies of others.
COPIES = {f"runs/{name}": "runs/digits" for name in "abc"}


def make_files(folder: Path) -> None:
    """Writes all files that pages name, and a home with pictures and datasets."""
    home = folder / "home"
    make_pictures(folder, home / "photos")
    make_models(folder)
    make_imagenet(home / "Downloads")
    make_mnist(home / "diffusion_jax_data")
    shutil.copytree(GOLDEN / "tfds", home / "tensorflow_datasets")


def make_pictures(folder: Path, photos: Path) -> None:
    from sklearn.datasets import load_digits

    digits = load_digits()
    for label in (3, 8):
        image = digits.images[list(digits.target).index(label)] * 15.9
        Image.fromarray(image.astype(np.uint8)).save(folder / f"{label}.png")
    mask = np.zeros((8, 8), np.uint8)
    mask[:, 4:] = 255
    Image.fromarray(mask).save(folder / "mask.png")
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(256, size=(8, 8, 3), dtype=np.uint8)).save(folder / "small.png")
    for index in range(12):
        path = photos / ("cats", "dogs")[index % 2] / f"{index}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(256, size=(72, 80, 3), dtype=np.uint8)).save(path)


def make_models(folder: Path) -> None:
    """Files like those that others have published, of small networks with random weights."""
    from diffusion_jax.files import torch_reader, torch_writer

    rng = np.random.default_rng(0)
    shapes = np.load(GOLDEN / "adm.npz")
    for file, network in (
        ("64x64_diffusion.pt", "new"),
        ("64x64_classifier.pt", "attention"),
        ("128_512_upsampler.pt", "super"),
    ):
        # With ImageNet's classes in place of five.
        state = {
            name: 0.1 * rng.standard_normal([1000 if side == 5 else side for side in shape])
            for name, shape in json.loads(str(shapes[f"{network}_shapes"]))
        }
        state = {name: array.astype(np.float32) for name, array in state.items()}
        torch_writer.write(folder / file, state)
    original = GOLDEN / "original_unet"
    state = torch_reader.read(original / "train_tiny.pkl")
    state["c_emb.weight"] = np.tile(state["c_emb.weight"], (1, 100))
    optimizer = torch_reader.read(original / "train_tiny_optim.pkl")
    torch_writer.write(folder / "model_438e_550000s.pkl", state)
    settings = json.loads((original / "train_tiny.json").read_text())
    settings |= {"num_classes": 1000, "T": 20}
    (folder / "model_params_438e_550000s.json").write_text(json.dumps(settings))
    index = list(state).index("c_emb.weight")
    for moment in ("exp_avg", "exp_avg_sq"):
        small = optimizer["state"][index][moment]
        optimizer["state"][index][moment] = np.tile(small, (1, 100))
    torch_writer.write(folder / "optim_438e_550000s.pkl", optimizer)
    shutil.copy(original / "train_tiny.pkl", folder / "model.pkl")
    shutil.copy(original / "train_tiny.json", folder / "model_params.json")
    shutil.copy(GOLDEN / "rrdbnet" / "tiny.pth", folder / "RealESRGAN_x4plus.pth")
    features = rng.normal(size=(50, 8))
    np.save(folder / "real_mean.npy", features.mean(0))
    np.save(folder / "real_cov.npy", np.cov(features, rowvar=False))
    features = rng.uniform(0, 255, (100, 4 * 3))  # see block_sizes.quarters
    statistics = {"mu": features.mean(0), "sigma": np.cov(features, rowvar=False)}
    np.savez(folder / "VIRTUAL_imagenet64_labeled.npz", **statistics)


def make_imagenet(folder: Path) -> None:
    """The zip files of image-net.org, of a few images each."""
    import zipfile

    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for part, members in {
        "train_part1": ("train_data_batch_1",),
        "train_part2": ("train_data_batch_10",),
        "val": ("val_data",),
    }.items():
        with zipfile.ZipFile(folder / f"Imagenet64_{part}_npz.zip", "w") as archive:
            for member in members:
                data = rng.integers(256, size=(20, 3 * 64 * 64), dtype=np.uint8)
                buffer = io.BytesIO()
                np.savez(buffer, data=data, labels=rng.integers(1, 1001, 20))
                archive.writestr(f"{member}.npz", buffer.getvalue())


def make_mnist(data_dir: Path) -> None:
    from diffusion_jax.data.cache import Description
    from diffusion_jax.data.cache_writer import CacheWriter

    rng = np.random.default_rng(0)
    names = [str(digit) for digit in range(10)]
    description = Description("mnist", "train", (16, 16, 1), names, {"files": "made"})
    with CacheWriter(data_dir / "mnist" / "train", description, ["all"]) as writer:
        images = rng.integers(256, size=(40, 16, 16, 1), dtype=np.uint8)
        writer.write("all", [(images, np.arange(40) % 10)])
        writer.finish()
