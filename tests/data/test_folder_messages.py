"""Messages about a folder: classes, sizes, skipped images and permissions."""

import errno
import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from tiny import tiny_config

from diffusion_jax.config.experiment import Experiment
from diffusion_jax.data import cache, dataset_summary, decoder, make_source
from diffusion_jax.data.crops import Crop
from diffusion_jax.data.decoder import Decoder
from diffusion_jax.data.folder import find_images
from diffusion_jax.data.folder_options import FolderOptions
from diffusion_jax.data.image_warnings import ImageWarnings
from diffusion_jax.files import npz
from diffusion_jax.workdir.run_files import load_config

ROOT = Path(__file__).parents[2]


def save(path, width=8, height=8):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, height)).save(path)


def opened(folder, tmp_path, **options):
    options = {"split": "train", "resolution": 8, "channels": 3, **options}
    return make_source(f"folder:{folder}", cache_dir=str(tmp_path / "cache"), **options)


def test_sub_folders_without_images_are_listed(tmp_path, capsys):
    root = tmp_path / "f"
    save(root / "cat" / "old" / "1.png")
    save(root / "dog" / "1.png")
    (root / "fox" / "young").mkdir(parents=True)
    (root / "bird").mkdir()
    (root / "bird" / "notes.txt").write_text("no bird")
    (root / ".hidden").mkdir()
    assert find_images(root).empty == ["bird", "fox"]
    assert find_images(root, FolderOptions(labels="parents")).empty == ["bird", "fox/young"]
    # What patterns leave out is known to be left out.
    assert find_images(root, FolderOptions(exclude="dog/*")).empty == ["bird", "fox"]
    assert opened(root, tmp_path).class_names == ["cat", "dog"]
    said = capsys.readouterr().out
    assert "No class for 2 sub-folders that have no images: bird, fox\n" in said
    assert "No class" not in "".join(dataset_summary.lines(root, ["cat/old/1.png"], [0], ["cat"]))


def test_enlarged_and_heavily_cropped_images_are_reported(tmp_path, capsys):
    save(tmp_path / "f" / "dot.png", 1, 1)
    save(tmp_path / "f" / "strip.png", 2000, 10)
    save(tmp_path / "f" / "usual.png", 24, 8)
    opened(tmp_path / "f", tmp_path)
    assert capsys.readouterr().out.splitlines()[2:4] == [
        "1 (such as dot.png (1x1)) of 3 images is smaller than 8x8 and enlarged; data.exclude "
        "leaves files out",
        "1 (such as strip.png (2000x10)) of 3 images is more than 3 times as long as wide and "
        "cropped to a small part; data.exclude leaves files out",
    ]
    opened(tmp_path / "f", tmp_path, crop="stretch", resolution=16)
    said = capsys.readouterr().out
    assert "3 (such as dot.png (1x1)) of 3 images are smaller than 16x16 and enlarged" in said
    assert "more than 3 times as long as wide and squeezed" in said


def test_small_images_outside_the_sample_are_reported_after_decoding(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(dataset_summary, "SAMPLE", 2)
    for name in ("a", "b", "d"):
        save(tmp_path / "f" / f"{name}.png")
    save(tmp_path / "f" / "c.png", 4, 4)
    opened(tmp_path / "f", tmp_path)
    line = "1 (such as c.png (4x4)) of the images decoded now is smaller than 8x8 and enlarged"
    assert line in capsys.readouterr().out
    opened(tmp_path / "f", tmp_path)
    assert not capsys.readouterr().out


def test_ordinary_images_give_no_warning():
    odd = ImageWarnings(Crop("center-crop", 8))
    for size in ((8, 8), (8, 24), (24, 8), (900, 300)):
        odd.add("a.png", size)
    assert odd.lines("4 images") == []


def test_check_command_counts_the_shown_classes(tmp_path):
    for index in range(10):
        save(tmp_path / "f" / f"c{index}" / "1.png")
    command = [sys.executable, "-m", "scripts.data", "check", "--config=configs/folder.py"]
    command += [f"--config.data.name=folder:{tmp_path / 'f'}", "--config.data.resolution=8"]
    command += [
        f"--config.data.cache_dir={tmp_path / 'cache'}",
        f"--out={tmp_path / 'a' / 'b.png'}",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(f"Picture: {tmp_path / 'a' / 'b.png'} (8 of 10 classes)\n")


def test_unreadable_file_is_not_called_damaged(tmp_path, monkeypatch):
    def refused(*arguments, **options):
        raise PermissionError(errno.EACCES, "Permission denied", "the file")

    save(tmp_path / "f" / "a.png")
    source = opened(tmp_path / "f", tmp_path)
    (folder,) = (tmp_path / "cache").glob("folder-*")
    with monkeypatch.context() as patch:
        patch.setattr(decoder.Image, "open", refused)
        with pytest.raises(ValueError, match="cannot be read: Permission denied; change its perm"):
            Decoder(3)(tmp_path / "f" / "a.png")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", refused)
        with pytest.raises(PermissionError):
            npz.read(tmp_path / "a.npz")
    with monkeypatch.context() as patch:
        patch.setattr(cache.np, "fromfile", refused)
        with pytest.raises(PermissionError):
            cache.CachedSource(folder)
    assert len(source) == 1


@pytest.mark.parametrize("name", [["unet"], {"a": 1}, None, "nope", 3])
def test_unknown_network_in_a_config_is_refused_in_one_line(tmp_path, name):
    values = tiny_config().to_dict()
    values["model"]["name"] = name
    (tmp_path / "config.json").write_text(json.dumps(values))
    with pytest.raises(ValueError, match=r"model\.name") as caught:
        Experiment.from_config(load_config(tmp_path))
    assert "\n" not in str(caught.value)
