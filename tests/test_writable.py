"""Places that cannot be written are found out before the work, and nothing is left there."""

import os
from pathlib import Path

import pytest
from forks import run_each
from PIL import Image

from diffusion_jax.evaluation import plots
from diffusion_jax.files import writable


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("kept")
    return path


def test_what_can_be_written_is_left_as_it_was(tmp_path, file):
    for path in (file, tmp_path / "new.png", tmp_path / "a" / "b" / "new.png"):
        writable.check(path, "--out")
    for path in (tmp_path, tmp_path / "new", tmp_path / "a" / "b"):
        writable.check(path, "--out", folder=True)
    writable.check(Path("new.png"), "--out")
    assert [path.name for path in tmp_path.iterdir()] == ["file.txt"]
    assert file.read_text() == "kept"


def test_what_cannot_be_written_gets_one_line(tmp_path, file):
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    cases = [
        (file / "new.png", {}, "Not a directory"),
        (file / "a" / "b", {"folder": True}, "Not a directory"),
        (file, {"folder": True}, "it is a file, and a folder was expected"),
        (tmp_path, {}, "it is a folder, and a file was expected"),
        (tmp_path / ("x" * 254), {}, "File name too long"),
        (tmp_path / ("x" * 300) / "a.png", {}, "File name too long"),
        (tmp_path / "dangling" / "a.png", {}, "No such file or directory"),
        (Path("/proc/new/a.png"), {}, "No such file or directory"),
    ]
    for path, options, why in cases:
        with pytest.raises(ValueError, match="cannot be written") as caught:
            writable.check(path, "--out", **options)
        assert str(caught.value) == (
            f"--out={path} cannot be written: {why}; choose another place, or change its "
            "permissions (chmod)"
        )
    with pytest.raises(ValueError, match=r"--plot=/proc/new\.png cannot be written"):
        plots.check(None, Path("/proc/new.png"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_permissions_are_said(tmp_path, file):
    file.chmod(0o400)
    with pytest.raises(ValueError, match="it is protected from writing; choose another place"):
        writable.check(file, "--out")
    tmp_path.chmod(0o500)
    with pytest.raises(ValueError, match="Permission denied; choose another place"):
        writable.check(tmp_path / "a.png", "--out")


@pytest.mark.parametrize(
    ("script", "arguments"),
    [
        ("sample", [["--workdir=digits", "--out=FILE/x"]]),
        ("edit", [["vary", "--workdir=digits", "--labels=1", "--out=FILE/x"]]),
        ("report", [["--workdir=digits", "--out=FILE/x.html"]]),
        (
            "fid",
            [
                [
                    "reference",
                    "--data=digits",
                    "--split=all",
                    "--features=pixels",
                    "--out=FILE/x.npz",
                ]
            ],
        ),
        (
            "prepare_data",
            [
                [
                    "check",
                    "--config=configs/folder.py",
                    "--config.data.name=folder:FOLDER",
                    "--config.data.cache_dir=FOLDER/cache",
                    "--out=FILE/x.png",
                ]
            ],
        ),
        (
            "convert",
            [
                ["--to=safetensors", "--workdir=digits", "--out=FILE/x"],
                ["--to=original", "--workdir=digits", "--out=FILE/x"],
                ["--from=safetensors", "--model=FILE", "--workdir=FILE/x"],
                ["--from=original", "--mean=FILE", "--cov=FILE", "--out=FILE/x.npz"],
            ],
        ),
    ],
    ids=["sample", "edit", "report", "fid", "prepare_data", "convert"],
)
def test_scripts_say_so_before_they_work(tmp_path, file, script, arguments):
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")

    def placed(text):
        return text.replace("FILE", str(file)).replace("FOLDER", str(tmp_path))

    cases = [[placed(text) for text in case] for case in arguments]
    for case, done in zip(cases, run_each(script, cases)):
        (line,) = done.stderr.strip().splitlines()
        assert line.startswith(f"Error: {case[-1].partition('=')[0]}={file}/x"), line
        assert "cannot be written: Not a directory; choose another place" in line
        assert done.stdout == ""
        assert done.returncode == 1
    assert {path.name for path in tmp_path.iterdir()} == {"a.png", "file.txt"}
