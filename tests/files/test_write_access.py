"""Checks of outputs before any work; they leave nothing behind."""

import errno
import os
from pathlib import Path

import pytest
from forks import run_each
from PIL import Image

from diffusion_jax.evaluation import sweep_plot
from diffusion_jax.files import write_access


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("kept")
    return path


def test_writable_paths_are_left_unchanged(tmp_path, file):
    for path in (file, tmp_path / "new.png", tmp_path / "a" / "b" / "new.png"):
        write_access.check(path, "--out")
    for path in (tmp_path, tmp_path / "new", tmp_path / "a" / "b"):
        write_access.check(path, "--out", folder=True)
    write_access.check(Path("new.png"), "--out")
    assert [path.name for path in tmp_path.iterdir()] == ["file.txt"]
    assert file.read_text() == "kept"


def test_unwritable_paths_are_refused_in_one_line(tmp_path, file):
    dangling, round_trip = tmp_path / "dangling", tmp_path / "round"
    dangling.symlink_to(tmp_path / "nowhere" / "b")
    round_trip.symlink_to(round_trip)
    a_file = "Not a directory; choose another place: a part of the path is a file"
    too_long = "File name too long; choose a shorter name"
    nothing = "No such file or directory; choose another place"
    of_link = f"{nothing}, or make the folder that the link {dangling} leads to"
    of_circle = f"{os.strerror(errno.ELOOP)}; choose another place: its links form a circle"
    cases = [
        (file / "new.png", {}, a_file),
        (file / "a" / "b", {"folder": True}, a_file),
        (file, {"folder": True}, "it is a file, and a folder was expected; choose another place"),
        (
            tmp_path,
            {},
            "it is a folder, and a file was expected; choose another place, such as a file in that "
            "folder",
        ),
        (tmp_path / ("x" * 254), {}, too_long),
        (tmp_path / ("x" * 300) / "a.png", {}, too_long),
        (dangling / "a.png", {}, of_link),
        (dangling, {"folder": True}, of_link),
        (dangling, {}, of_link),
        (round_trip / "a.png", {}, of_circle),
        (Path("/proc/new/a.png"), {}, f"{nothing}: no folder can be made there"),
    ]
    for path, options, why in cases:
        with pytest.raises(ValueError, match="cannot be written") as caught:
            write_access.check(path, "--out", **options)
        assert str(caught.value) == f"--out={path} cannot be written: {why}"
    with pytest.raises(ValueError, match=r"--plot=/proc/new\.png cannot be written"):
        sweep_plot.check(None, Path("/proc/new.png"))


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.EACCES, "choose another place, or change its permissions (chmod)"),
        (errno.EPERM, "choose another place, or change its permissions (chmod)"),
        (errno.EROFS, "choose another place: that disk can only be read"),
        (errno.ENOSPC, "choose another place, or make room there"),
        (errno.EDQUOT, "choose another place, or make room there"),
        (errno.EIO, "choose another place"),
    ],
)
def test_remedy_depends_on_the_error(tmp_path, monkeypatch, number, remedy):
    def fails(**options):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(write_access.tempfile, "TemporaryFile", fails)
    with pytest.raises(ValueError, match="cannot be written") as caught:
        write_access.check(tmp_path / "a.png", "--out")
    assert str(caught.value).endswith(f"cannot be written: {os.strerror(number)}; {remedy}")


def test_link_to_a_missing_file_is_writable(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "new.png")
    write_access.check(tmp_path / "link", "--out")
    assert [path.name for path in tmp_path.iterdir()] == ["link"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_missing_permissions_are_reported(tmp_path, file):
    file.chmod(0o400)
    with pytest.raises(ValueError, match="it is protected from writing; choose another place"):
        write_access.check(file, "--out")
    tmp_path.chmod(0o500)
    with pytest.raises(ValueError, match="Permission denied; choose another place"):
        write_access.check(tmp_path / "a.png", "--out")


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
            "data",
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
    ids=["sample", "edit", "report", "fid", "data", "convert"],
)
def test_scripts_check_outputs_before_any_work(tmp_path, file, script, arguments):
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
