"""Folders of image files: selection, labels, splits, pixels, crops and broken files."""

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from PIL import Image, ImageCms
from tiny import tiny_config, tiny_transformer_config, train

from diffusion_jax.data import make_source, preparation
from diffusion_jax.data.crops import CROPS, RandomResizedCrop
from diffusion_jax.data.decoder import Decoder
from diffusion_jax.data.folder import find_images, select_split
from diffusion_jax.data.folder_options import FolderOptions
from diffusion_jax.runs import datasets
from diffusion_jax.workdir.run_files import load_classes

ROOT = Path(__file__).parents[2]


def picture(width=12, height=8, mode="RGB", seed=0):
    channels = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4, "CMYK": 4}[mode]
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)
    return Image.fromarray(pixels.squeeze(), mode)


def save(path, image=None, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    (image or picture(seed=len(path.name))).save(path, **options)
    return path


def open_folder(folder, tmp_path, **options):
    options = {"split": "train", "resolution": 8, "channels": 3, **options}
    return make_source(f"folder:{folder}", cache_dir=str(tmp_path / "cache"), **options)


@pytest.fixture
def classes(tmp_path):
    """Two classes, one of them in a nested folder, and files that are not images."""
    folder = tmp_path / "animals"
    for index in range(3):
        save(folder / "dog" / f"{index}.png", picture(seed=index))
        save(folder / "cat" / "old" / f"{index}.JPG", picture(seed=index + 3))
    (folder / "cat" / "notes.txt").write_text("cats")
    (folder / ".hidden").mkdir()
    save(folder / ".hidden" / "a.png")
    save(folder / "dog" / ".b.png")
    return folder


def test_labels_are_the_names_of_the_sub_folders(classes, tmp_path):
    listing = find_images(classes)
    assert listing.files == [*(f"cat/old/{i}.JPG" for i in range(3))] + [
        f"dog/{i}.png" for i in range(3)
    ]
    assert listing.class_names == ["cat", "dog"]
    assert listing.labels == [0, 0, 0, 1, 1, 1]
    assert listing.left_out[".txt, not an image format"] == ["cat/notes.txt"]
    assert find_images(classes, FolderOptions(labels="parents")).class_names == ["dog", "old"]
    unlabeled = find_images(classes, FolderOptions(labels="none"))
    assert (unlabeled.class_names, unlabeled.labels) == ([], [0] * 6)
    source = open_folder(classes, tmp_path)
    assert source.class_names == ["cat", "dog"]
    assert source.read(np.arange(6))["label"].tolist() == [0, 0, 0, 1, 1, 1]


def test_a_flat_folder_has_no_classes(tmp_path):
    save(tmp_path / "a" / "1.png")
    save(tmp_path / "a" / "b" / "2.png")
    assert find_images(tmp_path / "a").class_names == []
    with pytest.raises(ValueError, match=r"1\.png is in no sub-folder.*data\.labels=none"):
        find_images(tmp_path / "a", FolderOptions(labels="folders"))


def test_patterns_select_files(classes):
    assert find_images(classes, FolderOptions(include="*.png")).files == [
        f"dog/{i}.png" for i in range(3)
    ]
    kept = find_images(classes, FolderOptions(exclude="*old*, */0.*")).files
    assert kept == ["dog/1.png", "dog/2.png"]
    assert find_images(classes, FolderOptions(exclude=("*old*", "*/0.*"))).files == kept


def test_text_options_equal_tuples_and_numbers():
    assert FolderOptions(include="a*, b").include == ("a*", "b")
    assert FolderOptions(include="") == FolderOptions(include=()) == FolderOptions()
    assert FolderOptions(holdout="0.3") == FolderOptions(holdout=0.3)
    assert FolderOptions(holdout="val/*") == FolderOptions(holdout=["val/*"])


def test_links_are_followed_and_loops_are_not(classes, tmp_path):
    folder = tmp_path / "linked"
    folder.mkdir()
    (folder / "x").symlink_to(classes / "dog")
    (classes / "dog" / "loop").symlink_to(classes)
    assert len(find_images(folder).files) == 6  # the loop leads once to the rest


def test_holdout_splits_files_by_pattern_or_hash(classes, tmp_path):
    listing = find_images(classes)
    held = select_split(listing, "heldout", ("cat/*",))
    assert held.files == [f"cat/old/{i}.JPG" for i in range(3)]
    assert held.class_names == ["cat", "dog"]
    assert select_split(listing, "train", ("cat/*",)).files == [f"dog/{i}.png" for i in range(3)]
    assert select_split(listing, "all", ("cat/*",)) == listing
    for index in range(300):
        save(classes / "bird" / f"{index}.png", picture(2, 2))
    listing = find_images(classes)
    train, held = (set(select_split(listing, name, 0.3).files) for name in ("train", "heldout"))
    assert train | held == set(listing.files)
    assert not train & held
    assert 60 < len(held) < 125
    # What is added later moves no file from one side to the other.
    save(classes / "bird" / "late.png")
    assert train <= set(select_split(find_images(classes), "train", 0.3).files)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "test"}, "it has: train, heldout, all"),
        ({"split": "heldout"}, "needs data.holdout"),
        ({"split": "heldout", "holdout": "1.5"}, "between 0 and 1"),
        ({"holdout": "*"}, "leaves no images"),
        ({"split": "all", "holdout": "brid/*"}, "data.holdout: 'brid/.*' matches none"),
        ({"holdout": "0,1"}, "data.holdout: '0' matches none"),
        ({"exclude": "*seg*"}, r"data\.exclude: .* matches none"),
        ({"include": "*.gif"}, r"data\.include: .* matches none"),
        ({"include": "*.txt"}, "has no images"),
        ({"resolution": None}, "set data.resolution"),
        ({"resolution": 0}, "data.resolution=0 must be at least 1"),
        ({"shorter_side": 4}, "data.shorter_side=4 must be at least data.resolution=8"),
        ({"labels": "tags"}, "data.labels='tags' must be one of auto, folders, parents, none"),
        ({"channels": 4, "skip_broken": True}, "model.channels=4: .* set model.channels=3"),
        ({"crop": "middle"}, "data.crop='middle' must be one of stretch, center-crop"),
    ],
)
def test_bad_options_are_refused(classes, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        open_folder(classes, tmp_path, **options)


def test_images_of_the_right_size_are_unchanged(tmp_path):
    square, gray = picture(8, 8), picture(8, 8, "L")
    save(tmp_path / "f" / "a.png", square)
    save(tmp_path / "f" / "b.webp", square, lossless=True)
    save(tmp_path / "f" / "c.bmp", gray)
    save(tmp_path / "f" / "d.gif", square.quantize(16))
    for crop in CROPS:
        images = open_folder(tmp_path / "f", tmp_path, crop=crop).read(np.arange(4))["image"]
        assert_array_equal(images[0], square)
        assert_array_equal(images[1], square)
        assert_array_equal(images[2], np.repeat(np.asarray(gray)[..., None], 3, axis=2))
        assert_array_equal(images[3], square.quantize(16).convert("RGB"))
    source = open_folder(tmp_path / "f", tmp_path, channels=1)
    assert_array_equal(source.read(np.array([2]))["image"][0, ..., 0], gray)
    assert_array_equal(source.read(np.array([0]))["image"][0, ..., 0], square.convert("L"))


def test_crops_cut_the_center_or_stretch():
    """Pixel values are the horizontal positions."""
    ramp = np.tile(np.arange(0, 160, dtype=np.uint8), (80, 1))
    image = Image.fromarray(ramp)
    stretched = np.asarray(CROPS["stretch"](image, 40), float)
    assert_array_equal(np.diff(stretched[20, 2:-2]), 4.0)
    for name in ("center-crop", "center-crop-dhariwal"):
        row = np.asarray(CROPS[name](image, 40), float)[20]
        # The middle half, at half the size: 40 to 120 in steps of two.
        assert np.abs(row[2:-2] - (40.5 + 2 * np.arange(40))[2:-2]).max() <= 0.5


def test_dhariwal_crop_equals_the_published_steps():
    """Step by step with plain averages: 96x64 to 16 is two halvings and no bicubic change."""
    image = picture(96, 64, "L")
    pixels = np.asarray(image, float)
    for _ in range(2):
        for _ in range(2):  # Pillow rounds after each direction, horizontal first
            pairs = pixels.reshape(len(pixels), -1, 2).mean(2)
            pixels = np.floor(pairs + 0.5).T
    assert_array_equal(CROPS["center-crop-dhariwal"](image, 16), pixels[:, 4:20])


def test_dhariwal_crop_rounds_the_longer_side():
    """55 16 / 18 = 48.9 is 49, of which the middle is kept."""
    image = picture(18, 55, "L")
    whole = np.asarray(image.resize((16, 49), Image.Resampling.BICUBIC))
    assert_array_equal(CROPS["center-crop-dhariwal"](image, 16), whole[16:32])
    whole = np.asarray(image.rotate(90, expand=True).resize((49, 16), Image.Resampling.BICUBIC))
    turned = CROPS["center-crop-dhariwal"](image.rotate(90, expand=True), 16)
    assert_array_equal(turned, whole[:, 16:32])


def test_center_crop_of_an_odd_margin_starts_left_of_the_middle():
    image = picture(11, 8, "L")
    assert_array_equal(CROPS["center-crop"](image, 8), np.asarray(image)[:, 1:9])
    image = picture(8, 11, "L")
    assert_array_equal(CROPS["center-crop"](image, 8), np.asarray(image)[1:9])


def test_random_crops_have_uniform_areas_and_log_uniform_aspects():
    crop, generator = RandomResizedCrop(64, 0.8), np.random.default_rng(0)
    boxes = np.array([crop.box(100, 80, generator) for _ in range(500)])
    left, top, width, height = boxes.T
    assert (left.min(), top.min()) == (0, 0)
    assert (left + width).max() == 100
    assert (top + height).max() == 80
    area, aspect = width * height / 8000, width / height
    assert 0.79 < area.min() < 0.81
    assert 0.99 < area.max() <= 1
    assert 0.95 < aspect.min() < aspect.max() < 1.34
    # Where no box fits: the largest of the shapes allowed, in the middle.
    assert crop.box(300, 30, generator) == (130, 0, 40, 30)
    assert crop.box(30, 300, generator) == (0, 130, 30, 40)
    assert crop.box(301, 30, generator) == (130, 0, 40, 30)
    assert crop.box(30, 301, generator) == (0, 130, 30, 40)
    # Wide and high shapes are equally likely: the logarithm of the ratio is uniform.
    crop = RandomResizedCrop(64, 0.2)
    boxes = np.array([crop.box(1000, 1000, generator) for _ in range(4000)])
    assert abs(np.log(boxes[:, 2] / boxes[:, 3]).mean()) < 0.01


def test_random_crops_are_a_function_of_seed_epoch_and_image(tmp_path):
    for index in range(6):
        save(tmp_path / "f" / f"{index}.png", picture(40 + index, 30, seed=index))
    config = tiny_config(
        data__name=f"folder:{tmp_path / 'f'}",
        data__split="train",
        data__cache_dir=str(tmp_path / "cache"),
        data__crop="random-resized-crop",
        model__channels=3,
        model__num_classes=0,
        batch_size=4,
    )
    source = datasets.open_source(config)
    assert [image.shape for image in source.read(np.arange(2))["image"]] == [(10, 13, 3)] * 2

    def taken(start, count, **changes):
        with config.unlocked():
            config.update(changes)
        stream = datasets.training_batches(config, source, start)
        return np.concatenate([next(stream)["image"] for _ in range(count)])

    whole = taken(0, 6)
    assert whole.shape == (24, 8, 8, 3)
    assert_array_equal(taken(8, 4), whole[8:])
    assert_array_equal(taken(0, 12, batch_size=2), whole)
    assert not np.array_equal(taken(0, 12, seed=1), whole)
    # Each epoch crops anew, though so small an image has but a few crops.
    assert len(np.unique(whole.reshape(24, -1), axis=0)) > 12


def test_decoded_folder_is_not_decoded_again(classes, tmp_path, capsys, monkeypatch):
    first = open_folder(classes, tmp_path)
    assert "Decoding folder:animals" in capsys.readouterr().out
    monkeypatch.setattr(Decoder, "__call__", None)
    again = open_folder(classes, tmp_path)
    assert again.description == first.description
    loaded = open_folder(classes, tmp_path, load_into_memory=True)
    assert loaded.description == first.description
    assert_array_equal(loaded.images, first.read(np.arange(6))["image"])
    monkeypatch.undo()
    # Another crop, and another set of files, are other datasets.
    assert open_folder(classes, tmp_path, crop="stretch").description != first.description
    save(classes / "dog" / "new.png")
    assert len(open_folder(classes, tmp_path)) == 7


def test_two_processes_decode_once(classes, tmp_path, capsys):
    """Two threads stand for the processes; their locks exclude each other in the same way."""
    with ThreadPoolExecutor(2) as executor:
        opened = [executor.submit(open_folder, classes, tmp_path) for _ in range(2)]
        first, second = (future.result() for future in opened)
    assert first.description == second.description
    assert capsys.readouterr().out.count("Decoding folder:animals") == 1


def broken(folder, kind):
    path = folder / "017.png"
    match kind:
        case "truncated":
            path = path.with_suffix(".jpg")
            save(path, picture(64, 64))
            path.write_bytes(path.read_bytes()[:-400])
        case "text":
            path.write_text("no image")
        case "empty":
            path.write_bytes(b"")
        case "transparent":
            save(path, picture(8, 8, "RGBA"))
        case "cmyk":
            path = path.with_suffix(".jpg")
            save(path, picture(8, 8, "CMYK"))
        case "16 bits":
            save(path, Image.fromarray(np.full((8, 8), 40000, np.uint16)))
        case "float":
            path = path.with_suffix(".tif")
            save(path, Image.fromarray(np.full((8, 8), 0.5, np.float32)))
        case "animated":
            path = path.with_suffix(".gif")
            frames = [picture(8, 8, "L", seed) for seed in range(3)]
            save(path, frames[0], save_all=True, append_images=frames[1:])
        case "lab":
            path = path.with_suffix(".tif")
            to_lab = ImageCms.buildTransform(
                ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB"
            )
            save(path, ImageCms.applyTransform(picture(8, 8), to_lab))
    return path


BROKEN = [
    ("truncated", "cannot be read as an image: image file is truncated"),
    ("text", "cannot be read as an image: its format is unknown"),
    ("empty", "cannot be read as an image: its format is unknown"),
    ("float", "32 bits per pixel"),
]
AMBIGUOUS = [
    ("transparent", "has transparent parts"),
    ("cmyk", "is in CMYK colors"),
    ("16 bits", "has 16 bits per channel"),
    ("animated", "has 3 frames"),
    ("lab", "is in LAB colors"),
]


def test_folder_whose_files_were_all_skipped_is_refused(tmp_path):
    for _ in range(2):  # the second time, what is known of the first is read
        broken(tmp_path / "f", "transparent")
        with pytest.raises(ValueError, match="has no images: each of its 1 files was skipped"):
            open_folder(tmp_path / "f", tmp_path, skip_broken=True)


@pytest.mark.parametrize(("kind", "message"), BROKEN + AMBIGUOUS)
def test_unusable_file_is_named_or_skipped(tmp_path, kind, message):
    folder = tmp_path / "f"
    for index in range(16):
        save(folder / f"{index:03}.png", picture(8, 8, seed=index))
    path = broken(folder, kind)
    save(folder / "020.png")
    with pytest.raises(ValueError, match=message) as caught:
        open_folder(folder, tmp_path)
    assert str(caught.value).startswith(str(path))
    assert "data.skip_broken=True" in str(caught.value)
    assert not list((tmp_path / "cache").glob("*/dataset.json"))
    source = open_folder(folder, tmp_path, skip_broken=True)
    assert len(source) == 17
    assert source.description.skipped == [path.name]
    if (kind, message) in AMBIGUOUS:
        assert f"{path.name}; set data.convert=True" not in str(caught.value)
        assert "set data.convert=True" in str(caught.value)
        assert len(open_folder(folder, tmp_path, convert=True)) == 18
    else:
        with pytest.raises(ValueError, match=message):
            open_folder(folder, tmp_path, convert=True)


def test_convert_composites_on_white_and_scales_16_bits(tmp_path):
    decode = Decoder(3, convert=True)
    clear = Image.new("RGBA", (2, 1), (0, 0, 0, 0))
    clear.putpixel((0, 0), (10, 20, 30, 255))
    assert_array_equal(decode(save(tmp_path / "a.png", clear)), [[[10, 20, 30], [255] * 3]])
    deep = Image.fromarray(np.array([[0, 257 * 100, 65535]], np.uint16))
    path = save(tmp_path / "b.png", deep)
    assert_array_equal(Decoder(1, convert=True)(path), [[0, 100, 255]])
    # Opaque transparency is none.
    opaque = picture(4, 4)
    opaque.putalpha(255)
    assert_array_equal(Decoder(3)(save(tmp_path / "c.png", opaque)), opaque.convert("RGB"))


def test_decoding_resumes_after_a_broken_file_is_repaired(tmp_path, monkeypatch):
    monkeypatch.setattr(preparation, "PART_BYTES", 0)  # 16 files a part
    folder = tmp_path / "f"
    for index in range(40):
        save(folder / f"{index:03}.png", picture(8, 8, seed=index))
    (folder / "020.png").write_text("no image")
    with pytest.raises(ValueError, match="Decoded images are kept"):
        open_folder(folder, tmp_path)
    save(folder / "020.png", picture(8, 8, seed=20))
    decoded = []
    decode = Decoder.__call__
    monkeypatch.setattr(
        Decoder, "__call__", lambda self, path: decoded.append(path.name) or decode(self, path)
    )
    source = open_folder(folder, tmp_path)
    assert sorted(decoded) == [f"{index:03}.png" for index in range(16, 40)]
    for index, image in enumerate(source.read(np.arange(40))["image"]):
        assert_array_equal(image, picture(8, 8, seed=index))
    assert not list((tmp_path / "cache").glob("*.partial"))


def test_exif_orientation_is_applied_only_if_upright(tmp_path, capsys):
    image = picture(8, 8)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by a quarter
    save(tmp_path / "f" / "a.png", image, exif=exif)
    as_stored = open_folder(tmp_path / "f", tmp_path).read(np.array([0]))["image"][0]
    assert "Used as stored, ignoring the EXIF orientation: " in capsys.readouterr().out
    assert_array_equal(as_stored, image)
    turned = open_folder(tmp_path / "f", tmp_path, upright=True).read(np.array([0]))["image"][0]
    assert_array_equal(turned, np.rot90(image, -1))


def prepare(folder, tmp_path, *arguments):
    command = [sys.executable, "-m", "scripts.data", "check", "--config=configs/folder.py"]
    command += [
        f"--config.data.name=folder:{folder}",
        f"--config.data.cache_dir={tmp_path / 'cache'}",
    ]
    return [*command, "--config.data.resolution=16", f"--out={tmp_path / 'check.png'}", *arguments]


def test_check_command_describes_a_folder(classes, tmp_path):
    command = prepare(classes, tmp_path)
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "Training mirrors half of the images" in done.stdout
    assert "6 images of 16x16x3, classes: 2" in done.stdout
    assert "cat: 3, dog: 3" in done.stdout
    assert '"crop": "center-crop"' in done.stdout
    assert "1 .txt, not an image format (such as cat/notes.txt)" in done.stdout
    assert "2 hidden (such as .hidden)" in done.stdout
    assert "3 files left out" in done.stdout
    with Image.open(tmp_path / "check.png") as image:
        assert image.mode == "RGB"
    for wrong, message in [("nowhere", "does not exist"), (".hidden", "has no images")]:
        (tmp_path / ".hidden").mkdir(exist_ok=True)
        command = prepare(tmp_path / wrong, tmp_path)
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
        assert done.returncode == 1
        assert done.stderr.startswith("Error: ")
        assert done.stderr.count("\n") == 1
        assert message in done.stderr


def test_parts_with_skipped_files_are_not_reused_without_skip_broken(tmp_path, monkeypatch):
    monkeypatch.setattr(preparation, "PART_BYTES", 0)  # 16 files a part
    folder = tmp_path / "f"
    for index in range(40):
        save(folder / f"{index:03}.png", picture(8, 8, seed=index))
    (folder / "003.png").write_text("no image")
    decode = Decoder.__call__

    def stop(self, path):
        if path.name == "030.png":
            raise KeyboardInterrupt
        return decode(self, path)

    with monkeypatch.context() as patch:
        patch.setattr(Decoder, "__call__", stop)
        with pytest.raises(KeyboardInterrupt):
            open_folder(folder, tmp_path, skip_broken=True)
    assert list((tmp_path / "cache").glob("*.partial/progress.json"))
    with pytest.raises(ValueError, match="003"):
        open_folder(folder, tmp_path)
    assert len(open_folder(folder, tmp_path, skip_broken=True)) == 39


def test_pipes_broken_links_and_postscript_are_not_images(tmp_path):
    folder = tmp_path / "f"
    for index in range(3):
        save(folder / f"{index}.png", picture(8, 8))
    (folder / "link.png").symlink_to(tmp_path / "nowhere")
    os.mkfifo(folder / "pipe.png")
    os.mkfifo(folder / "pipe")
    (folder / "ghost.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    with pytest.raises(ValueError, match=r"ghost\.png cannot be read .* its format is unknown"):
        open_folder(folder, tmp_path)
    source = open_folder(folder, tmp_path, skip_broken=True)
    assert source.description.skipped == ["ghost.png", "link.png", "pipe.png"]
    odd = os.fsdecode(b"\xff")
    save(folder / f"{odd}.png", picture(8, 8))
    assert len(open_folder(folder, tmp_path, skip_broken=True)) == 4
    save(tmp_path / "g" / "a\nb" / "1.png")
    with pytest.raises(ValueError, match=r"sub-folder 'a\\nb', which cannot name a class"):
        find_images(tmp_path / "g")


def test_class_mistakes_are_reported_before_decoding(tmp_path, capsys):
    for name in ("train/cat", "train/dog", "test/cat", "test/dog"):
        save(tmp_path / "f" / name / "1.png", picture(8, 8))
    with pytest.raises(ValueError, match=r"num_classes=10, but folder:f has 2 classes"):
        open_folder(tmp_path / "f", tmp_path, num_classes=10)
    assert not (tmp_path / "cache").exists()
    assert open_folder(tmp_path / "f", tmp_path).class_names == ["test", "train"]
    assert "The classes are test, train: if these are splits" in capsys.readouterr().out
    options = {"labels": "parents", "holdout": "test/*", "num_classes": 2}
    assert open_folder(tmp_path / "f", tmp_path, **options).class_names == ["cat", "dog"]
    assert "The classes are" not in capsys.readouterr().out


def test_decoded_folder_opens_without_the_originals(classes, tmp_path):
    first = open_folder(classes, tmp_path)
    (folder,) = (tmp_path / "cache").glob("folder-animals-train-*")
    folder = folder.rename(tmp_path / "elsewhere")
    again = make_source(f"prepared:{folder}", split="train")
    assert again.description == first.description
    with pytest.raises(ValueError, match="is the split train"):
        make_source(f"prepared:{folder}", split="all")
    # The same images under another name have the same fingerprint.
    classes.rename(tmp_path / "pets")
    moved = open_folder(tmp_path / "pets", tmp_path).description
    assert (moved.name, moved.fingerprint) == ("folder:pets", first.description.fingerprint)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_folder_is_an_error(classes):
    (classes / "cat").chmod(0)
    with pytest.raises(PermissionError):
        find_images(classes)


def test_decoding_resumes_after_a_kill(tmp_path):
    """After a SIGKILL there is no dataset, and the next start resumes."""
    folder = tmp_path / "f"
    original = save(folder / "00000.png", picture(200, 150))
    for index in range(1, 6000):
        os.link(original, folder / f"{index:05}.png")
    command = prepare(folder, tmp_path, "--config.data.resolution=64")
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while not list((tmp_path / "cache").glob("*.partial/progress.json")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not list((tmp_path / "cache").glob("*/dataset.json"))
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "6,000 images" in done.stdout
    source = open_folder(folder, tmp_path, resolution=64)
    images = source.read(np.array([0, 3000, 5999]))["image"]
    assert_array_equal(images[0], images[1])
    assert_array_equal(images[0], images[2])


@pytest.mark.usefixtures("ordinary_promotion")
def test_checkpoint_records_the_fingerprint_of_the_data(classes, tmp_path, capsys):
    config = tiny_transformer_config(
        data__name=f"folder:{classes}",
        data__split="train",
        data__cache_dir=str(tmp_path / "cache"),
        data__crop="random-resized-crop",
        data__flip=True,
        model__channels=3,
        model__num_classes=2,
        batch_size=8,
        steps=2,
        sampling__grid_rows=1,
    )
    train(config, tmp_path / "run")
    source = datasets.open_source(config)
    out = capsys.readouterr().out
    assert f"fingerprint {source.description.fingerprint[:16]}" in out
    assert "Training mirrors half of the images (data.flip=True)" in out
    about = Path(tmp_path / "run" / "checkpoints" / "2" / "metadata.json").read_text()
    assert source.description.fingerprint in about
    assert load_classes(tmp_path / "run") == ["cat", "dog"]
    record = json.loads((tmp_path / "run" / "dataset.json").read_text())
    assert any("Training mirrors half of the images" in note for note in record["notes"])
    # Another folder's worth of files under the same name does not go unnoticed.
    save(classes / "dog" / "new.png")
    config.steps = 3
    train(config, tmp_path / "run")
    assert "Changed since the last start: the data's count: 6 -> 7" in capsys.readouterr().out
    (classes / "cat").rename(classes / "wolf")
    with pytest.raises(ValueError, match=r"run differ \(cat -> dog; dog -> wolf\)"):
        train(config, tmp_path / "run")
