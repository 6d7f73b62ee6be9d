"""A small file of every kind that the library reads, with its reader."""

import dataclasses
import io
import json
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import imagenet_zips
import numpy as np
import nvidia_pickles
from memory import MB
from ml_collections import ConfigDict
from PIL import Image
from reliability import flips

from diffusion_jax.config.experiment import Experiment
from diffusion_jax.data import imagenet
from diffusion_jax.data.cache import CachedSource, Description
from diffusion_jax.data.cache_writer import CacheWriter
from diffusion_jax.data.crops import Crop
from diffusion_jax.data.decoder import Decoder
from diffusion_jax.data.folder import find_images
from diffusion_jax.data.folder_options import FolderOptions
from diffusion_jax.evaluation import feature_shards, image_sets, reference_checks, references
from diffusion_jax.files import limits, npz, nvidia_pickle, torch_reader, torch_writer
from diffusion_jax.generation.image_shards import Shards
from diffusion_jax.importers import edm, safetensors
from diffusion_jax.importers.original import hyperparameters
from diffusion_jax.report import evaluations, training_data
from diffusion_jax.training.checkpoints import Checkpoints
from diffusion_jax.training.logging import read_metrics
from diffusion_jax.workdir import environment
from diffusion_jax.workdir.run_files import load_classes, load_config, save_classes, save_config

GOLDEN = Path(__file__).parent / "golden"
EDM = {"img_resolution": 8, "img_channels": 3, "label_dim": 0, "model_type": "SongUNet"}
EDM |= {"model_channels": 8, "channel_mult": [1, 2], "num_blocks": 1, "attn_resolutions": [4]}


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of file.

    content: bytes to damage. put: writes them into a folder. read: reads the folder with our code.
    slow: takes long to read, so it is tried less often. most: bytes of memory.
    """

    name: str
    content: bytes
    put: Callable[[Path, bytes], object]
    read: Callable[[Path], object]
    slow: bool = False
    most: int = 512 * MB


def make(folder):
    """Returns all kinds. folder: an empty folder, for files that are needed to make them."""
    folder.mkdir(parents=True, exist_ok=True)
    makers = (arrays, imagenets, tensors, pictures, labels, datasets, runs, checkpoints)
    return [kind for maker in makers for kind in maker(folder)]


def file(name, content, file_name, read, **options):
    """Returns a kind of a single file."""

    def put(folder, content):
        (folder / file_name).write_bytes(content)

    return Kind(name, content, put, lambda folder: read(folder / file_name), **options)


def member(name, content, file_name, member_name, read, others=None, method=zipfile.ZIP_STORED):
    """Returns a kind that is damaged before it is zipped, so that the checksum is right."""

    def put(folder, content):
        with zipfile.ZipFile(folder / file_name, "w", method) as archive:
            for other, data in {member_name: content, **(others or {})}.items():
                archive.writestr(other, data)

    return Kind(name, content, put, lambda folder: read(folder / file_name))


def arrays(folder):
    generator = np.random.default_rng(0)
    features = generator.normal(size=(40, 8))
    statistics = {"pool": (features.mean(0), np.cov(features, rowvar=False))}
    images = generator.integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)
    about = {"data": {"shape": [8, 8, 3], "origin": {"crop": "stretch"}}}
    references.Reference(statistics, images, about).save(str(folder / "statistics.npz"))
    npz.write(folder / "images.npz", {"arr_0": images})
    np.savez_compressed(folder / "small.npz", arr_0=images)
    moments = {"count": np.ones((), int), "mean": np.ones(8), "scatter": np.ones((8, 8))}
    moments = {f"pool/{name}": array for name, array in moments.items()}
    npz.write(folder / "moments.npz", moments)
    buffer = io.BytesIO()
    np.save(buffer, statistics["pool"][1])
    np.save(folder / "mean.npy", statistics["pool"][0])
    mean = (folder / "mean.npy").read_bytes()

    def put_pair(folder, content):
        (folder / "mean.npy").write_bytes(mean)
        (folder / "covariance.npy").write_bytes(content)

    def read_statistics(path):
        reference = references.load(str(path), "pool")
        reference_checks.check_same_data(reference, about["data"], "the images")
        _ = reference.channels

    def read_images(path):
        found = image_sets.from_files(path, None, 3)
        found.read(0, found.count)

    whole = {path.stem: path.read_bytes() for path in folder.glob("*.npz")}
    yield file("statistics", whole["statistics"], "a.npz", read_statistics)
    with zipfile.ZipFile(folder / "statistics.npz") as archive:
        others = {name: archive.read(name) for name in archive.namelist()}
    for name in ("about.npy", "mu.npy", "arr_0.npy"):
        rest = {other: content for other, content in others.items() if other != name}
        yield member(f"{name} in statistics", others[name], "a.npz", name, read_statistics, rest)
    yield file("images as npz", whole["images"], "a.npz", read_images)
    yield file("images as deflated npz", whole["small"], "a.npz", read_images)
    yield member("array in images", others["arr_0.npy"], "a.npz", "arr_0.npy", read_images)
    yield Kind(
        "pair of npy",
        buffer.getvalue(),
        put_pair,
        lambda f: references.load(f"{f / 'mean.npy'},{f / 'covariance.npy'}", "pool"),
    )
    yield file("moments", whole["moments"], "moments.npz", feature_shards._saved_moments)


def imagenets(folder):
    for kind in ("pickle", "npz"):
        made = imagenet_zips.make_zips(folder / kind, npz=kind == "npz", images=3)
        path = next((folder / kind).glob("*_val*.zip"))
        data, labels = made["val_data"]
        values = {"data": data, "labels": labels.tolist()}
        buffer = io.BytesIO()
        if kind == "npz":
            np.savez_compressed(buffer, **values)
        else:
            pickle.dump(values, buffer, 2)
        name = "val_data" + (".npz" if kind == "npz" else "")
        yield file(f"ImageNet zip of {kind}", path.read_bytes(), path.name, read_imagenet)
        yield member(f"ImageNet {kind} in zip", buffer.getvalue(), path.name, name, read_imagenet)
    small = pickle.dumps({"data": data[:1], "labels": [1], "mean": np.ones(3)}, 4)
    yield member("ImageNet pickle, short", small, "Imagenet64_val.zip", "val_data", read_imagenet)


def read_imagenet(path):
    for part in imagenet.find_parts(path.parent, "validation"):
        for _ in imagenet.read(part, path.parent):
            pass


def tensors(folder):
    tree = {"a.weight": np.ones((4, 3), np.float32), "b": {"c": [1, 2.5, "x", None]}}
    torch_writer.write(folder / "a.pt", tree)
    yield file("torch", (folder / "a.pt").read_bytes(), "a.pt", torch_reader.read)
    with zipfile.ZipFile(folder / "a.pt") as archive:
        pickled, numbers = archive.read("a/data.pkl"), archive.read("a/data/0")
    others = {"a/data/0": numbers}
    yield member("pickle in torch", pickled, "a.pt", "a/data.pkl", torch_reader.read, others)
    legacy = (GOLDEN / "torch_types" / "legacy.pt").read_bytes()
    yield file("torch, legacy", legacy, "a.pt", torch_reader.read)
    safetensors.numpy.save_file(
        {"a.kernel": np.ones((4, 3), np.float32), "b": np.ones(2, np.float16)},
        folder / "a.safetensors",
        {"step": "5"},
    )
    content = (folder / "a.safetensors").read_bytes()
    yield file("safetensors", content, "a.safetensors", safetensors.tensors_of)
    length = int.from_bytes(content[:8], "little")
    header, numbers = content[8 : 8 + length], content[8 + length :]

    def put(folder, content):
        whole = len(content).to_bytes(8, "little") + content + numbers
        (folder / "a.safetensors").write_bytes(whole)

    yield Kind(
        "header of safetensors",
        header,
        put,
        lambda folder: safetensors.tensors_of(folder / "a.safetensors"),
    )
    state = {"model.a.weight": np.ones((4, 3), np.float32), "model.map_noise.freqs": np.ones(2)}
    state = {name: array.astype(np.float32) for name, array in state.items()}
    nvidia_pickles.write(folder / "a.pkl", "EDMPrecond", EDM, state)

    def read_edm(path):
        module = nvidia_pickle.read(path, "EDMPrecond")
        edm.check_size(edm.settings_of(module.arguments, path), module.tensors, path)

    yield file("NVIDIA's pickle", (folder / "a.pkl").read_bytes(), "a.pkl", read_edm)
    shape = {"blk_types": ["res"], "num_blocks": 1, "atn_resolution": 16, "epoch": 1, "step": 2}

    def read_original(path):
        values = hyperparameters.read(path, path, {})
        hyperparameters.settings(values, path)

    original = next((GOLDEN / "original_unet").glob("*.json"), None)
    content = original.read_bytes() if original else json.dumps(shape).encode()
    yield file("hyperparameters", content, "a.json", read_original)


def pictures(folder):
    generator = np.random.default_rng(0)
    image = Image.fromarray(generator.integers(0, 256, (24, 32, 3), dtype=np.uint8))
    most, cut = 16 * limits.IMAGE_PIXELS, Crop("center-crop-dhariwal", 16)
    decode = Decoder(3, convert=True, upright=True, then=cut)
    exif = image.getexif()
    exif[0x0112] = 6
    for name in ("png", "jpg", "gif", "tif", "webp", "bmp", "ico", "ppm", "tga", "jp2"):
        buffer = io.BytesIO()
        options = {"exif": exif} if name in ("png", "jpg", "webp") else {}
        saved = image.convert("P") if name == "gif" else image
        kind = {"jpg": "JPEG", "tif": "TIFF", "jp2": "JPEG2000"}.get(name, name.upper())
        saved.save(buffer, kind, **options)
        yield file(name.upper(), buffer.getvalue(), f"a.{name}", decode, most=most)


def labels(folder):
    """Files with labels beside images, and a zip archive of both."""
    image = Image.new("RGB", (4, 4))
    names = ["a/1.png", "a/2.png", "b/3.png"]
    contents = {
        "dataset.json": json.dumps({"labels": [[name, i % 2] for i, name in enumerate(names)]}),
        "metadata.csv": "file_name,label\n" + "".join(f"{name},x{name[2]}\n" for name in names),
        "metadata.jsonl": "".join(
            json.dumps({"file_name": name, "label": i}) + "\n" for i, name in enumerate(names)
        ),
    }
    png = io.BytesIO()
    image.save(png, "PNG")

    def put_beside(name):
        def put(folder, content):
            for image_name in names:
                (folder / image_name).parent.mkdir(exist_ok=True)
                (folder / image_name).write_bytes(png.getvalue())
            (folder / name).write_bytes(content)

        return put

    def read_listing(folder):
        return find_images(folder, FolderOptions(labels="file"))

    for name, content in contents.items():
        yield Kind(f"labels in {name}", content.encode(), put_beside(name), read_listing)

    def read_zip(path):
        listing = find_images(path)
        decode = Decoder(3, convert=True)
        with listing.tree.reader() as open_file:
            for name in listing.files:
                decode(path / name, open_file(name))

    with zipfile.ZipFile(folder / "images.zip", "w") as archive:
        for name in names:
            archive.writestr(name, png.getvalue())
        archive.writestr("dataset.json", contents["dataset.json"])
    most = 16 * limits.IMAGE_PIXELS
    content = (folder / "images.zip").read_bytes()
    yield file("zip of images", content, "a.zip", read_zip, most=most)


def datasets(folder):
    for name, sizes in (("squares", [(4, 4)] * 3), ("various sizes", [(4, 6), (5, 4), (4, 4)])):
        made = folder / name
        shape = (4, 4, 3) if name == "squares" else (0, 0, 3)
        about = Description("a", "train", shape, ["x", "y"], {"crop": "stretch"})
        images = [np.full((*size, 3), 7, np.uint8) for size in sizes]
        with CacheWriter(made, about, ["p"]) as writer:
            rows = np.stack(images) if shape[0] else images
            writer.write("p", [(rows, np.array([0, 1, 0], np.int32))])
            writer.finish()
        for part in sorted(path.name for path in made.iterdir()):
            yield in_copy(made, part, f"{part} of {name}", read_dataset)


def read_dataset(folder):
    source = CachedSource(folder)
    source.description.summary(), source.description.provenance()
    for index in range(min(len(source), 5)):
        source.image(index)
    source.read(np.arange(min(len(source), 5)))


def in_copy(original, part, name, read, **options):
    """Returns a kind of one file of a folder; the others are intact."""

    def put(folder, content):
        shutil.copytree(original, folder / "it", dirs_exist_ok=True)
        (folder / "it" / part).write_bytes(content)

    content = (original / part).read_bytes()
    return Kind(name, content, put, lambda folder: read(folder / "it"), **options)


def runs(folder):
    from configs import digits

    workdir = folder / "run"
    workdir.mkdir()
    save_config(digits.get_config(), workdir)
    save_classes([f"class {i}" for i in range(10)], workdir)
    lines = [{"step": step, "loss": 0.5 / (step + 1), "rate": 1e-4} for step in range(9)]
    (workdir / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (workdir / "environment.json").write_text(json.dumps([{"Python": "3.11", "step": "5"}]))
    (workdir / "result-1.json").write_text(json.dumps({"metrics": {"FID": 2.5}, "note": "x"}))
    (workdir / "dataset.json").write_text(json.dumps({"shape": [8, 8, 1], "origin": {}}))

    def read_config(workdir):
        config = load_config(workdir)
        assert isinstance(config, ConfigDict)
        Experiment.from_config(config)

    yield in_copy(workdir, "config.json", "config.json of a run", read_config, slow=True)
    yield in_copy(workdir, "classes.txt", "classes.txt", load_classes)
    yield in_copy(workdir, "metrics.jsonl", "metrics.jsonl", read_metrics)
    yield in_copy(workdir, "environment.json", "environment.json", environment.recorded)
    yield in_copy(workdir, "dataset.json", "dataset.json of a run", training_data.read_record)
    yield in_copy(
        workdir,
        "result-1.json",
        "result of an evaluation",
        lambda f: evaluations.as_table(evaluations.read(f, 10**6).results),
    )
    settings = {"seed": 1, "steps": 4, "labels": [1, 2]}
    shards = folder / "shards"
    fill(Shards.begin(shards, settings, 3, 3))

    def read_shards(folder):
        shards = Shards.begin(folder, settings, 3, 3)
        for rows in shards.blocks("images"):
            assert len(rows) == 3

    for part in sorted(path.name for path in (shards / "unfinished").iterdir()):
        yield in_copy(shards, f"unfinished/{part}", f"unfinished {part}", read_shards)


def checkpoints(folder):
    """Yields a kind for each file of a small checkpoint."""
    state = flips.small_state()
    with Checkpoints(folder / "checkpoints", create=True) as writer:
        writer.save(flips.STEP, state, metadata=flips.METADATA)

    def read(folder):
        with Checkpoints(folder) as reader:
            reader.restore(flips.STEP, state), reader.metadata(flips.STEP)

    made = folder / "checkpoints"
    for path in sorted(made.rglob("*")):
        name = str(path.relative_to(made))
        # The other items are read as params are, and commit_success.txt is not.
        others = ("ema_params/", "opt_state/", "commit_success.txt")
        if path.is_file() and not any(other in name for other in others):
            yield in_copy(made, name, f"checkpoint's {name}", read, slow=True)


def fill(shards):
    """Writes three black images."""
    shards.fill(
        lambda first, number: {"images": np.zeros((number, 8, 8, 1), np.float32)},
        lambda number: None,
        write=True,
    )
