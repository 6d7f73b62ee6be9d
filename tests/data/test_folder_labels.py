"""Labels of a folder's images, from files beside them, file names and sub-folders, and of zips."""

import json
import tracemalloc
import zipfile

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from PIL import Image

from diffusion_jax.data import make_source
from diffusion_jax.data.file_tree import ZipTree
from diffusion_jax.data.folder import find_images
from diffusion_jax.data.folder_options import FolderOptions
from diffusion_jax.data.left_out import counts
from diffusion_jax.files import limits

EDM_LABELS = [2, 0, 2, 0, 0, 2]


def save(path, value=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (value, 0, 0)).save(path)


def opened(folder, tmp_path, **options):
    options = {"split": "train", "resolution": 8, "channels": 3, **options}
    return make_source(f"folder:{folder}", cache_dir=str(tmp_path / "cache"), **options)


def listing(folder, labels="auto", **options):
    return find_images(folder, FolderOptions(labels=labels, **options))


def zipped(folder, path=None, method=zipfile.ZIP_STORED):
    path = path or folder.with_suffix(".zip")
    with zipfile.ZipFile(path, "w", method) as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, str(file.relative_to(folder)))
    return path


@pytest.fixture
def edm(tmp_path):
    """Six images as EDM's dataset_tool writes them, three to a folder."""
    folder = tmp_path / "edm"
    names = [f"{i // 3:05d}/img{i:08d}.png" for i in range(6)]
    for value, name in enumerate(names):
        save(folder / name, value)
    pairs = [list(pair) for pair in zip(names, EDM_LABELS)]
    (folder / "dataset.json").write_text(json.dumps({"labels": pairs[::-1]}))
    return folder


def test_edm_labels_come_from_dataset_json(edm, tmp_path, capsys):
    found = listing(edm)
    assert found.labels == EDM_LABELS
    assert found.class_names == ["0", "1", "2"]  # class k is the label k, also without images
    source = opened(edm, tmp_path)
    assert "6 images; 3 classes of dataset.json: 0 (3), 1 (0), 2 (3)" in capsys.readouterr().out
    assert source.labels.tolist() == EDM_LABELS
    assert source.description.origin["labels"] == "dataset.json"
    assert listing(edm, "file") == found
    assert listing(edm, include="*.png") == found
    assert listing(edm, "folders").class_names == ["00000", "00001"]
    assert listing(edm, "none").class_names == []


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_zip_is_a_folder_that_is_not_unpacked(edm, tmp_path, method):
    folder = opened(edm, tmp_path)
    before = sorted(tmp_path.rglob("*"))
    path = zipped(edm, tmp_path / "a.ZIP", method)
    found = opened(path, tmp_path)
    assert_array_equal(found.read(np.arange(6))["image"], folder.read(np.arange(6))["image"])
    assert found.labels.tolist() == EDM_LABELS
    assert found.description.fingerprint == folder.description.fingerprint
    new = set(tmp_path.rglob("*")) - set(before) - {path}
    assert all(file.is_relative_to(tmp_path / "cache") for file in new)
    assert len(opened(path, tmp_path, split="heldout", holdout="*5.png")) == 1


def test_other_content_of_the_same_length_is_another_dataset(tmp_path):
    for value in (5, 77):
        save(tmp_path / "f" / "a.bmp", value)
        source = opened(zipped(tmp_path / "f"), tmp_path)
        assert source.read(np.array([0]))["image"][0, 0, 0, 0] == value


def test_zip_of_class_folders_leaves_out_what_folders_leave_out(tmp_path, capsys):
    for name in ("cat/1.png", "dog/1.png", "dog/.hidden.png", "__MACOSX/dog/x.png"):
        save(tmp_path / "f" / name)
    found = listing(zipped(tmp_path / "f"))
    assert (found.files, found.class_names) == (["cat/1.png", "dog/1.png"], ["cat", "dog"])
    assert counts(found.left_out) == {"hidden": 1, "in a system folder": 1}
    save(tmp_path / "f" / "@eaDir" / "dog" / "1.png" / "THUMB.jpg")
    save(tmp_path / "f" / "dog" / "@eaDir" / "1.png" / "THUMB.jpg")
    found = listing(tmp_path / "f")
    assert (found.files, found.class_names) == (["cat/1.png", "dog/1.png"], ["cat", "dog"])
    assert counts(found.left_out) == {"hidden": 1, "in a system folder": 3}
    source = opened(tmp_path / "f", tmp_path)
    assert "3 in a system folder (such as @eaDir/" in capsys.readouterr().out
    assert source.description.provenance()["left_out"] == counts(found.left_out)
    assert not found.empty


def broken_zip(edm, kind):
    path = zipped(edm)
    content = path.read_bytes()
    match kind:
        case "cut":
            path.write_bytes(content[: len(content) // 2])
        case "text":
            path.write_text("no archive")
        case "twice":
            with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Dup"):
                archive.writestr("00000/img00000000.png", b"")
        case "bomb":
            with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
                archive.writestr("bomb.png", bytes(300_000_000))
        case "line break":
            with zipfile.ZipFile(path, "a") as archive:
                archive.writestr("a\nb.png", b"")
        case "bzip2":
            zipped(edm, path, zipfile.ZIP_BZIP2)
    return path


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("cut", "is damaged, or not a zip archive"),
        ("text", "is damaged, or not a zip archive"),
        ("twice", "two members '00000/img00000000.png'"),
        ("bomb", "unpacks to 300"),
        ("line break", r"'a\\nb\.png' has .* unprintable"),
        ("bzip2", "compressed with method 12"),
    ],
)
def test_unusable_zip_is_an_error_of_one_line(edm, kind, message):
    path = broken_zip(edm, kind)
    tracemalloc.start()
    with pytest.raises(ValueError, match=message) as caught:
        find_images(path)
    assert tracemalloc.get_traced_memory()[1] < 50_000_000
    tracemalloc.stop()
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_member_with_a_wrong_checksum_is_named(edm, tmp_path):
    path = zipped(edm)
    content = bytearray(path.read_bytes())
    place = content.index(b"IDAT") + 6
    content[place] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"img0000000\d\.png is damaged.*CRC"):
        opened(path, tmp_path)
    assert len(opened(path, tmp_path, skip_broken=True)) == 5


def test_image_in_a_zip_has_a_size_limit(edm, tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "ZIP_IMAGE_BYTES", 20)
    with pytest.raises(ValueError, match=r"img00000000\.png has \d+ bytes; at most 20 are read"):
        opened(zipped(edm), tmp_path, labels="none")


def test_members_never_leave_the_archive(tmp_path):
    path = tmp_path / "a.zip"
    save(tmp_path / "1.png")
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("../up.png", "/etc/root.png", "a/../../b.png", "c\\d.png"):
            archive.write(tmp_path / "1.png", name)
    assert ZipTree.open(path).names == ["c/d.png", "etc/root.png"]


@pytest.mark.parametrize("name", ["a.tar", "a.png"])
def test_other_files_are_not_called_missing(tmp_path, name):
    save(tmp_path / "1.png")
    (tmp_path / name).write_bytes((tmp_path / "1.png").read_bytes())
    with pytest.raises(ValueError, match=r"is a file; folder: takes a folder or a \.zip"):
        find_images(tmp_path / name)
    with pytest.raises(ValueError, match=r"data\.name=a\.zip is an archive; write folder:a\.zip"):
        make_source("a.zip", split="train")


TABLES = {
    "metadata.csv": "file_name,label\n{0},wolf\n{1},cat\n{2},wolf\n",
    "labels.CSV": '\ufefflabel,file_name,text\nwolf,{0},"a, b"\ncat,./{1},\nwolf,{2},c\n',
    "metadata.jsonl": '{{"file_name": "{0}", "label": "wolf"}}\n\n{{"label": "cat", "file_name": '
    '"{1}"}}\n{{"file_name": "{2}", "label": "wolf", "text": null}}',
}


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("folder", ["", "train/"])
@pytest.mark.parametrize("archive", [False, True])
def test_labels_of_a_table(tmp_path, name, folder, archive):
    files = [f"{i}/{i}.png" for i in range(3)]
    for file in files:
        save(tmp_path / "f" / folder / file)
    table = tmp_path / "f" / folder / name
    table.write_text(TABLES[name].format(*files), encoding="utf-8")
    root = zipped(tmp_path / "f") if archive else tmp_path / "f"
    found = listing(root)
    assert (found.labels, found.class_names) == ([1, 0, 1], ["cat", "wolf"])
    assert found.label_source == folder + name
    assert not counts(found.left_out)


def test_numbers_of_a_table_are_sorted_as_numbers(tmp_path):
    lines = ["file_name,label,kind"]
    for number, label in enumerate([10, 2, 1, 11, 3, 2]):
        save(tmp_path / f"{number}.png")
        lines.append(f"{number}.png,{label},k{number % 2}")
    (tmp_path / "a.csv").write_text("\n".join(lines))
    found = listing(tmp_path)
    assert found.class_names == ["1", "2", "3", "10", "11"]
    assert found.labels == [3, 1, 0, 4, 2, 1]
    assert listing(tmp_path, "file:kind").labels == [0, 1] * 3
    assert listing(tmp_path, "file:kind").class_names == ["k0", "k1"]
    with pytest.raises(ValueError, match=r"no file with labels.*a\.csv.*no column color \(its col"):
        listing(tmp_path, "file:color")
    with pytest.raises(ValueError, match=r"data\.labels='file:' must be one of"):
        FolderOptions(labels="file:")


def test_several_tables_are_read_together(tmp_path):
    for split in ("train", "test"):
        save(tmp_path / split / "a.png")
        (tmp_path / split / "metadata.csv").write_text(f"file_name,label\na.png,{split[1]}\n")
    found = listing(tmp_path)
    assert (found.files, found.class_names) == (["test/a.png", "train/a.png"], ["e", "r"])
    (tmp_path / "metadata.csv").write_text("file_name,label\ntest/a.png,other\n")
    with pytest.raises(ValueError, match=r"test/a\.png' has the labels 'other' and 'e'"):
        listing(tmp_path)
    (tmp_path / "dataset.json").write_text('{"labels": [["test/a.png", 0]]}')
    with pytest.raises(ValueError, match=r"has labels in dataset\.json and in metadata.csv"):
        listing(tmp_path)


def test_file_names_may_begin_with_classes(tmp_path):
    for name in ("cat_1.png", "x/dog_2_b.png", "cat_3.png", "y/dog_1.png"):
        save(tmp_path / name)
    found = listing(tmp_path, "prefix")
    assert found.files == ["cat_1.png", "cat_3.png", "x/dog_2_b.png", "y/dog_1.png"]
    assert (found.labels, found.class_names) == ([0, 0, 1, 1], ["cat", "dog"])
    guessed = listing(tmp_path)
    assert guessed.class_names == []
    assert "data.labels=prefix" in guessed.note
    save(tmp_path / "bird.png")
    with pytest.raises(ValueError, match=r"bird\.png does not begin with a class and '_'"):
        listing(tmp_path, "prefix")
    assert "data.labels=prefix" not in listing(tmp_path).note


UNREAD = {
    "labels.csv": "id,class\n1,cat\n",
    "sub/annotations.json": '{"images": []}',
    "dataset.json": "{",
    "train.parquet": "PAR1",
    "labels.tsv": "file_name\tlabel\n",
    "captions.csv": "file_name,text\ncat/1.png,a cat\n",
    "empty.csv": "",
    "header.csv": "file_name,label\n",
}


@pytest.mark.parametrize("name", UNREAD)
def test_classes_are_not_guessed_beside_unread_labels(tmp_path, name):
    for file in ("cat/1.png", "dog/1.png", "sub/1.png"):
        save(tmp_path / file)
    (tmp_path / name).write_text(UNREAD[name])
    with pytest.raises(ValueError, match=name.replace(".", r"\.")) as caught:
        listing(tmp_path)
    assert "\n" not in str(caught.value)
    assert listing(tmp_path, "folders").class_names == ["cat", "dog", "sub"]
    assert listing(tmp_path, "none").class_names == []
    assert listing(tmp_path, exclude=name).class_names == ["cat", "dog", "sub"]
    if name == "captions.csv":
        assert listing(tmp_path, exclude="[ds]*", labels="file:text").class_names == ["a cat"]


def test_file_about_a_single_image_is_no_label_file(tmp_path):
    for file in ("cat/1.png", "dog/1.png"):
        save(tmp_path / file)
        (tmp_path / file).with_suffix(".json").write_text('{"caption": "a"}')
    assert listing(tmp_path).class_names == ["cat", "dog"]


@pytest.mark.parametrize("per_folder", [lambda i: i // 3, lambda i: i // 3 * 3])
def test_numbered_parts_of_a_dataset_are_no_classes(tmp_path, per_folder):
    """EDM's 00000/img00000000.png and FFHQ's 01000/01000.png, without labels."""
    for i in range(9):
        save(tmp_path / f"{per_folder(i):05d}" / f"{i:05d}.png")
    with pytest.raises(ValueError, match=r"numbered parts.*data\.labels=folders if"):
        listing(tmp_path)
    assert len(listing(tmp_path, "folders").class_names) == 3
    (tmp_path / "dataset.json").write_text('{"labels": null}')
    found = listing(tmp_path)
    assert (found.class_names, found.labels) == ([], [0] * 9)
    assert "dataset.json has null in place of labels" in found.note
    with pytest.raises(ValueError, match=r"no file with labels.*has null in place of labels"):
        listing(tmp_path, "file")


def test_classes_with_numbers_for_names_are_classes(tmp_path):
    for name in ("1", "2", "10"):
        for i in range(2):
            save(tmp_path / "f" / name / f"{i}.png")
            save(tmp_path / "g" / f"{name:0>4}" / f"{i}.png")
    assert listing(tmp_path / "f").class_names == ["1", "10", "2"]
    assert listing(tmp_path / "g").class_names == ["0001", "0002", "0010"]


WRONG = {
    "missing": ({"dataset.json": '{"labels": [["a/1.png", 0]]}'}, r"1 of 2 images have no label"),
    "vector": ({"dataset.json": '{"labels": [["a/1.png", [0, 1]]]}'}, "several numbers are not"),
    "true": ({"dataset.json": '{"labels": [["a/1.png", true]]}'}, "must be .file, number."),
    "negative": ({"dataset.json": '{"labels": [["a/1.png", -1]]}'}, "label -1 .* must be in 0"),
    "huge": ({"dataset.json": '{"labels": [["a/1.png", 1e9]]}'}, "must be .file, number."),
    "large": ({"dataset.json": '{"labels": [["a/1.png", 999999999]]}'}, "must be in 0 ... 131,071"),
    "object": ({"dataset.json": '{"labels": {"a/1.png": 0}}'}, "are not a list"),
    "two": ({"dataset.json": '{"labels": [["a/1.png", 0], ["a/1.png", 1]]}'}, "two labels of .a/1"),
    "empty cell": ({"m.csv": "file_name,label\na/1.png,\nb/1.png,x"}, "label of .a/1.png. is ''"),
    "short row": ({"m.csv": "file_name,label\na/1.png\nb/1.png,x"}, "label of .a/1.png. is None"),
    "no file": ({"m.csv": "file_name,label\n,x\nb/1.png,x"}, "row 1 has no file_name"),
    "line break": ({"m.csv": 'file_name,label\na/1.png,"a\nb"\nb/1.png,x'}, "which cannot name"),
    "long": ({"m.csv": f"file_name,label\na/1.png,{'x' * 999}\nb/1.png,x"}, "most 200 letters"),
    "list": ({"m.jsonl": '{"file_name": "a/1.png", "label": ["x"]}'}, "label of .a/1.png. is"),
    "bool": ({"m.jsonl": '{"file_name": "a/1.png", "label": true}'}, "label of .a/1.png. is True"),
    "long name": ({"m.csv": f"file_name,label\n{'x' * 999},\nb/1.png,x"}, "label of 'xxx"),
    "line break in a column": ({"m.csv": "file_na\x0cme,label\na/1.png,x"}, "no column file_name"),
    "line break in a name": ({"m.csv": 'file_name,label\n"a\nb",'}, "label of 'a.*nb'"),
    "no object": ({"m.jsonl": "[1]"}, "no object"),
    "no JSON": ({"m.jsonl": '{"file_name": "a/1.png", "label": 1}\n{'}, "not readable as JSON"),
    "no text": ({"m.csv": b"file_name,label\n\xff\xfe"}, "not readable as text"),
    "digits": ({"dataset.json": '{"labels": ' + "9" * 9000 + "}"}, "not readable as JSON"),
    "nested": ({"dataset.json": '{"labels": ' + "[" * 100_000}, "nested too deeply"),
    "many values": ({"dataset.json": "[" + "[]," * 2**23 + "[]]"}, "more than 8,388,608 values"),
    "too long": ({"m.csv": "file_name,label\n" + "x" * limits.LABELS_BYTES}, "longer than 67,1"),
}


@pytest.mark.parametrize(("files", "message"), WRONG.values(), ids=WRONG)
def test_unusable_labels_are_an_error_of_one_line(tmp_path, files, message):
    for name in ("a/1.png", "b/1.png"):
        save(tmp_path / name)
    for name, content in files.items():
        content = content if isinstance(content, bytes) else content.encode()
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        listing(tmp_path, "file")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


def test_labels_of_missing_files_are_reported(edm):
    (edm / "00001" / "img00000005.png").unlink()
    assert (
        "dataset.json names 1 missing files, such as '00001/img00000005.png'" in listing(edm).note
    )
