"""ImageNet 64x64 from its zip files: pixels, order, resumption and bad files."""

import json
import pickle
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from imagenet_zips import make_zips
from numpy.testing import assert_array_equal

from diffusion_jax.data import imagenet, make_source, numpy_pickle
from diffusion_jax.data.cache import CachedSource, Description
from diffusion_jax.data.cache_writer import CacheWriter

ROOT = Path(__file__).parents[2]


def prepare(source, data_dir, *arguments):
    command = [sys.executable, "-m", "scripts.data", "imagenet64"]
    command += [f"--source={source}", f"--data_dir={data_dir}", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def zips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("zips")
    return folder, make_zips(folder)


@pytest.fixture(scope="module")
def prepared(zips, tmp_path_factory):
    data_dir = tmp_path_factory.mktemp("data")
    done = prepare(zips[0], data_dir, "--any_count")
    assert done.returncode == 0, done.stderr
    return data_dir


def test_pixels_and_labels_are_in_the_order_of_the_batches(zips, prepared):
    source = make_source("imagenet64", split="train", data_dir=str(prepared))
    assert len(source) == 80
    members = [zips[1][f"train_data_batch_{number}"] for number in (1, 2, 3, 10)]
    batch = source.read(np.arange(80))
    pixels = np.concatenate([data for data, _ in members]).reshape(80, 3, 64, 64)
    assert_array_equal(batch["image"], pixels.transpose(0, 2, 3, 1))
    assert_array_equal(batch["label"], np.concatenate([labels for _, labels in members]) - 1)
    assert batch["image"].dtype == np.uint8
    assert batch["label"].dtype == np.int32
    validation = make_source("imagenet64", split="validation", data_dir=str(prepared))
    assert len(validation) == 20


@pytest.mark.parametrize("kind", [{"npz": True}, {"protocol": 2}, {"protocol": 3}])
def test_all_formats_of_zips_give_the_same_dataset(kind, prepared, tmp_path):
    make_zips(tmp_path / "zips", **kind)
    done = prepare(tmp_path / "zips", tmp_path / "data", "--any_count")
    assert done.returncode == 0, done.stderr
    for split in ("train", "validation"):
        same = CachedSource(prepared / "imagenet64" / split).description
        assert CachedSource(tmp_path / "data" / "imagenet64" / split).description == same


def test_tfds_and_zips_give_the_same_images(golden, tmp_path):
    """The golden dataset of tfds, converted back to zips."""
    name = "tfds:imagenet_resized/64x64"
    where = {"data_dir": str(golden / "tfds"), "cache_dir": str(tmp_path / "cache")}
    made = make_source(name, split="train", **where)
    batch = made.read(np.arange(24))
    data = batch["image"].transpose(0, 3, 1, 2).reshape(24, -1)
    make_zips(tmp_path / "zips")
    for part, rows in enumerate((slice(0, 10), slice(10, 24)), 1):
        values = {"data": data[rows], "labels": (batch["label"][rows] + 1).tolist()}
        path = tmp_path / "zips" / f"Imagenet64_train_part{part}.zip"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(f"train_data_batch_{part}", pickle.dumps(values))
    done = prepare(tmp_path / "zips", tmp_path / "data", "--any_count", "--split=train")
    assert done.returncode == 0, done.stderr
    direct = make_source("imagenet64", split="train", data_dir=str(tmp_path / "data"))
    again = direct.read(np.arange(24))
    assert_array_equal(again["image"], batch["image"])
    assert_array_equal(again["label"], batch["label"])
    assert list(direct.class_names) == list(made.class_names)


def test_replaced_file_is_read_again(tmp_path):
    make_zips(tmp_path / "zips")
    done = prepare(tmp_path / "zips", tmp_path / "data", "--split=validation")
    assert "20 images in these files" in done.stderr
    content = make_zips(tmp_path / "zips", images=30)
    done = prepare(tmp_path / "zips", tmp_path / "data", "--split=validation", "--any_count")
    assert done.returncode == 0, done.stderr
    source = make_source("imagenet64", split="validation", data_dir=str(tmp_path / "data"))
    assert_array_equal(source.read(np.arange(30))["label"], content["val_data"][1] - 1)
    done = prepare(tmp_path / "zips", tmp_path / "data", "--split=validation")
    assert done.returncode == 1
    assert "has 30 images, the full dataset 50,000" in done.stderr


def test_class_names_have_the_order_of_the_dataset():
    names = imagenet.class_names()
    assert len(names) == len(set(names)) == 1000
    assert (names[0], names[1], names[173], names[999]) == (
        "kit fox",
        "English setter",
        "tabby",
        "dumbbell",
    )


def test_check_command_describes_the_dataset(prepared, tmp_path):
    command = [sys.executable, "-m", "scripts.data", "check"]
    command += [f"--data_dir={prepared}", f"--out={tmp_path / 'check.png'}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "80 images of 64x64x3" in done.stdout
    assert "kit fox to dumbbell" in done.stdout
    assert (tmp_path / "check.png").stat().st_size > 1000


def test_full_dataset_is_required_without_any_count(zips, tmp_path):
    done = prepare(zips[0], tmp_path, "--split=validation")
    assert done.returncode == 1
    assert "20 images in these files, the full dataset 50,000" in done.stderr
    assert not (tmp_path / "imagenet64" / "validation").exists()
    # What was read is kept: now it only has to be accepted.
    done = prepare(zips[0], tmp_path, "--split=validation", "--any_count")
    assert done.returncode == 0, done.stderr
    assert len(make_source("imagenet64", split="validation", data_dir=str(tmp_path))) == 20


def break_zips(folder, kind):
    part1, part2 = folder / "Imagenet64_train_part1.zip", folder / "Imagenet64_train_part2.zip"
    match kind:
        case "missing":
            part2.unlink()
        case "truncated":
            part2.write_bytes(part2.read_bytes()[:100_000])
        case "the same twice":
            shutil.copy(part1, part2)
        case "another zip":
            with zipfile.ZipFile(part2, "w") as archive:
                archive.writestr("holiday.jpg", b"")
        case "no zip":
            part2.write_text("<html>Please log in</html>")
        case "bit":
            data = bytearray(part2.read_bytes())
            data[len(data) // 2] ^= 1
            part2.write_bytes(data)
        case "label":
            make_zips(folder, largest_label=1001)
        case "size":
            values = {"data": np.zeros((2, 3072), np.uint8), "labels": [1, 2]}
            replace(part2, pickle.dumps(values))
        case "count":
            values = {"data": np.zeros((2, 12288), np.uint8), "labels": [1]}
            replace(part2, pickle.dumps(values))
        case "code":
            replace(part2, b"cos\nsystem\n(S'echo ha'\ntR.")
        case "everything":
            shutil.rmtree(folder)
            folder.mkdir()


def replace(path, pickled):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("train_data_batch_3", pickled)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("missing", "part2.zip is missing, although Imagenet64_train_part1.zip exists"),
        ("truncated", "part2.zip is damaged or not a zip file"),
        ("the same twice", "Imagenet64_train_part1.zip both contain batch 1:"),
        ("another zip", "part2.zip has no members such as"),
        ("no zip", "part2.zip is damaged or not a zip file"),
        ("bit", "part2.zip/train_data_batch"),
        ("label", "labels from"),
        ("size", "(2, 3072)"),
        ("count", "2 images and 1 labels"),
        ("code", "refers to 'os.system'"),
        ("everything", "has neither Imagenet64_train_part1.zip and"),
    ],
)
def test_bad_files_are_refused_and_write_no_dataset(tmp_path, kind, message):
    make_zips(tmp_path / "zips", images=6)
    break_zips(tmp_path / "zips", kind)
    done = prepare(tmp_path / "zips", tmp_path / "data", "--any_count", "--split=train")
    assert done.returncode == 1
    errors = [line for line in done.stderr.splitlines() if line.startswith("Error")]
    assert len(errors) == 1
    assert message in errors[0]
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "data" / "imagenet64" / "train").exists()
    with pytest.raises(FileNotFoundError, match=r"scripts\.data"):
        make_source("imagenet64", split="train", data_dir=str(tmp_path / "data"))


DESCRIPTION = Description("d", "train", (2, 2, 1), ["a", "b"])


def some_images(count, value):
    return [(np.full((count, 2, 2, 1), value, np.uint8), np.arange(count) % 2)]


def test_stopped_preparation_resumes(tmp_path):
    folder = tmp_path / "set"
    with CacheWriter(folder, DESCRIPTION, ["one", "two"]) as writer:
        writer.write("one", some_images(3, 1))
        # Stopped in the middle of the second part: its rows are there, but do not count.
        for file in writer._files.values():
            file.write(b"x" * 7)
    assert not folder.exists()
    with CacheWriter(folder, DESCRIPTION, ["one", "two"]) as writer:
        assert list(writer.done) == ["one"]
        assert writer.rows == 3
        writer.write("two", some_images(2, 2))
        stopped = writer.finish()
    with CacheWriter(tmp_path / "at_once", DESCRIPTION, ["one", "two"]) as writer:
        writer.write("one", some_images(3, 1))
        writer.write("two", some_images(2, 2))
        assert writer.finish() == stopped
    source = CachedSource(folder)
    assert_array_equal(source.read(np.arange(5))["image"][:, 0, 0, 0], [1, 1, 1, 2, 2])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["at_once", "set"]


@pytest.mark.parametrize("lost", ["shortened", "gone"])
def test_preparation_with_lost_rows_starts_over(tmp_path, lost):
    with CacheWriter(tmp_path / "set", DESCRIPTION, ["one"]) as writer:
        writer.write("one", some_images(3, 1))
    path = tmp_path / "set.partial" / "images.bin"
    path.write_bytes(path.read_bytes()[:-1]) if lost == "shortened" else path.unlink()
    with CacheWriter(tmp_path / "set", DESCRIPTION, ["one"]) as writer:
        assert writer.rows == 0
        writer.write("one", some_images(3, 1))
        writer.finish()
    assert_array_equal(CachedSource(tmp_path / "set").read(np.arange(3))["image"], 1)


def test_other_description_starts_over(tmp_path):
    with CacheWriter(tmp_path / "set", DESCRIPTION, ["one"]) as writer:
        writer.write("one", some_images(3, 1))
    other = Description("d", "train", (2, 2, 1), ["a", "b", "c"])
    with CacheWriter(tmp_path / "set", other, ["one"]) as writer:
        assert writer.rows == 0


def test_fingerprint_depends_on_pixels_labels_and_class_names(tmp_path):
    prints = set()
    for index, (value, names) in enumerate([(1, "ab"), (2, "ab"), (1, "ac")]):
        description = Description("d", "train", (2, 2, 1), list(names))
        with CacheWriter(tmp_path / str(index), description, ["one"]) as writer:
            writer.write("one", some_images(3, value))
            prints.add(writer.finish().fingerprint)
    assert len(prints) == 3


@pytest.mark.parametrize("name", ["images.bin", "labels.bin", "dataset.json"])
def test_damaged_dataset_is_named(tmp_path, name):
    with CacheWriter(tmp_path / "set", DESCRIPTION, ["one"]) as writer:
        writer.write("one", some_images(3, 1))
        writer.finish()
    path = tmp_path / "set" / name
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(ValueError, match="prepare it again"):
        CachedSource(tmp_path / "set")


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_long_arrays_are_spooled_to_a_temporary_file(tmp_path, monkeypatch, protocol):
    monkeypatch.setattr(numpy_pickle, "SPOOL_BYTES", 100)
    monkeypatch.setattr(numpy_pickle, "READ_BYTES", 7)  # which cuts characters of two bytes
    array = np.random.default_rng(0).integers(0, 256, (20, 30), np.uint8)
    (tmp_path / "a").write_bytes(pickle.dumps({"data": array, "x": [1.5, None]}, protocol))
    with (tmp_path / "a").open("rb") as file:
        values = numpy_pickle.read(file, "a", tmp_path)
    assert values["x"] == [1.5, None]
    assert_array_equal(np.concatenate(list(values["data"].chunks(7))), array)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize(
    "value",
    [
        {"data": np.zeros(3, object)},
        {"data": np.zeros((2, 3), order="F")},
        {"data": np.zeros(3, "datetime64[s]")},
        {"data": Path("a")},
        [1, 2],
    ],
)
def test_other_pickles_are_refused(tmp_path, value):
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps(value, 4))
    with path.open("rb") as file, pytest.raises(ValueError, match=r"^a\.pkl"):
        numpy_pickle.read(file, "a.pkl", tmp_path)


def test_description_is_plain_json(prepared):
    values = json.loads((prepared / "imagenet64" / "train" / "dataset.json").read_text())
    assert values["count"] == 80
    assert values["origin"]["crop"] == "as distributed"
