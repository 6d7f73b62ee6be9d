"""Atomic writes, and one-line errors for damaged NumPy files."""

import io
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from diffusion_jax.files import atomic, npz, torch_writer

ARRAYS = {"mu": np.arange(3.0), "images": np.arange(24, dtype=np.uint8).reshape(2, 3, 4)}


class PulledPlug(Exception):
    """Any end of a process in the middle of writing."""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_old_file_stays_until_the_new_one_is_complete(tmp_path):
    path = tmp_path / "a.txt"
    atomic.write_text(path, "old")
    with atomic.replacing(path) as partial:
        partial.write_text("né")
        assert path.read_text() == "old"
        assert partial.parent == tmp_path  # a rename within one file system
    assert path.read_text() == "né"
    assert names(tmp_path) == ["a.txt"]


def test_crash_while_writing_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    atomic.write_text(path, "old")

    def crash():
        with atomic.replacing(path) as partial:
            partial.write_text("half of the ne")
            raise PulledPlug

    with pytest.raises(PulledPlug):
        crash()
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize(
    ("write", "module", "function"),
    [
        (lambda path: npz.write(path, {"a": np.ones(3)}), np.lib.format, "write_array"),
        (lambda path: torch_writer.write(path, [np.ones(3, np.float32)]), zipfile.ZipFile, "open"),
        (lambda path: atomic.write_text(path, "new"), os, "fsync"),
    ],
)
def test_every_writer_is_atomic(tmp_path, monkeypatch, write, module, function):
    path = tmp_path / "a"
    path.write_bytes(b"old")

    def crash(*args, **kwargs):
        raise PulledPlug

    with monkeypatch.context() as patch:
        patch.setattr(module, function, crash)
        with pytest.raises(PulledPlug):
            write(path)
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a"]
    write(path)
    assert path.read_bytes() != b"old"


def test_processes_have_their_own_temporary_files(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    with atomic.replacing(path) as ours:
        ours.write_text("ours")
        monkeypatch.setattr(os, "getpid", lambda: -1)
        atomic.write_text(path, "theirs")
        assert ours.read_text() == "ours"
    assert path.read_text() == "ours"


def test_failed_write_leaves_no_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        atomic.write_text(tmp_path / "nowhere" / "a.txt", "text")
    assert names(tmp_path) == []


def test_arrays_round_trip(tmp_path):
    npz.write(tmp_path / "a.npz", ARRAYS)
    found = npz.read(tmp_path / "a.npz")
    assert list(found) == list(ARRAYS)
    for name, array in ARRAYS.items():
        assert_array_equal(found[name], array, strict=True)
        np.save(tmp_path / "a.npy", array)
        alone = npz.read_array(tmp_path / "a.npy")
        assert_array_equal(alone, array, strict=True)
        assert type(alone) is np.ndarray


def test_damaged_npz_is_refused_in_one_line_or_read_unchanged(tmp_path):
    path = tmp_path / "a.npz"
    npz.write(path, ARRAYS)
    whole = path.read_bytes()

    def line_of(content: bytes) -> str:
        """The error's text; "" if the numbers were read."""
        path.write_bytes(content)
        try:
            found = npz.read(path)
        except ValueError as error:
            return str(error)
        for name in found.keys() & ARRAYS.keys():
            assert_array_equal(found[name], ARRAYS[name])
        return ""

    lines = [line_of(whole[:length]) for length in range(0, len(whole), 7)]
    assert all(lines)
    for position in range(0, len(whole), 3):
        flipped = bytes([whole[position] ^ 129])
        lines.append(line_of(whole[:position] + flipped + whole[position + 1 :]))
    lines = list(filter(None, lines))  # some bytes, such as those of the date, mean nothing
    assert len(lines) > len(whole) // 4
    for line in lines:
        assert line.startswith(f"{path} is damaged, or not a NumPy file: ")
        assert len(line.splitlines()) == 1
        assert not line.endswith(": ")


def saved(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (saved(np.array([{}])), "Python objects"),
        (saved(np.ones(3))[:-1], "mmap length"),
        (saved(np.ones(3)).replace(b"(3,)", b"(9**99,)"), ""),
        (saved(np.ones(30)).replace(b"(30,), ", b"(1<<60)"), ""),
        (b"\x80\x04N.", "pickled"),
        (b"", ""),
        (b"words", ""),
    ],
)
def test_other_content_is_refused_in_one_line(tmp_path, content, message):
    path = tmp_path / "a.npy"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.npy is damaged, or not a NumPy file: .+") as caught:
        npz.read_array(path)
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_object_arrays_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", mu=np.array([{}]))
    with pytest.raises(ValueError, match=r"a\.npz is damaged, .*: Object arrays"):
        npz.read(tmp_path / "a.npz")


def test_npy_is_not_read_as_npz_nor_npz_as_npy(tmp_path):
    npz.write(tmp_path / "a.npz", ARRAYS)
    np.save(tmp_path / "a.npy", ARRAYS["mu"])
    with pytest.raises(ValueError, match=r"a\.npy .*: it holds a single array"):
        npz.read(tmp_path / "a.npy")
    with pytest.raises(ValueError, match=r"a\.npz .*: it is an archive"):
        npz.read_array(tmp_path / "a.npz")


@pytest.mark.parametrize("read", [npz.read, npz.read_array])
def test_missing_file_is_not_called_damaged_and_remedy_ends_the_message(tmp_path, read):
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "nowhere.npz", remedy="delete it")
    (tmp_path / "a").write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"a is damaged: .+; delete it$"):
        read(tmp_path / "a", remedy="delete it")
