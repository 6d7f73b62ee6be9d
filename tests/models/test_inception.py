"""InceptionV3 beside PyTorch's operations with the same random weights, and its files."""

import hashlib
import os
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image

from diffusion_jax.evaluation import inception_weights, resize
from diffusion_jax.evaluation.features import make_extractor
from diffusion_jax.evaluation.inception import PARAMETERS, InceptionV3
from diffusion_jax.files import torch_reader, torch_writer


@pytest.fixture(scope="module")
def params():
    return inception_weights.load("random")[0]


@pytest.fixture
def stored(golden):
    with np.load(golden / "inception.npz") as arrays:
        return {name: arrays[name] for name in arrays.files}


def test_it_has_the_published_number_of_parameters(params):
    leaves = jax.tree_util.tree_leaves_with_path(params)
    trained = [leaf for key, leaf in leaves if key[-1].key not in ("mean", "variance")]
    assert sum(leaf.size for leaf in trained) + 1008 == PARAMETERS  # 1,008 of a bias left out


@pytest.mark.parametrize("kind", ["photo", "noise"])
def test_resized_pixels_are_those_of_the_other_programs(stored, kind):
    images = stored[f"{kind}/images"]
    for name, function in (("tensorflow", resize.tensorflow), ("pytorch_fid", resize.pytorch_fid)):
        pixels = np.asarray(jax.jit(function)(images))
        assert pixels.shape[1:] == (299, 299, 3)
        assert_allclose(pixels[:, ::13, ::13], stored[f"{kind}/{name}"], atol=1e-5)


def test_clean_resizing_is_pillows_of_each_channel():
    images = np.random.default_rng(0).integers(0, 256, (2, 20, 30, 3), np.uint8)
    pixels = resize.clean(images)
    channel = Image.fromarray(images[1, ..., 2].astype(np.float32))
    expected = np.asarray(channel.resize((299, 299), Image.Resampling.BICUBIC)).clip(0, 255)
    assert_array_equal(pixels[1, ..., 2], (expected - 128) / 128)
    same = np.random.default_rng(0).integers(0, 256, (1, 299, 299, 3), np.uint8)
    assert_array_equal(resize.clean(same), (same.astype(np.float32) - 128) / 128)
    assert_allclose(resize.tensorflow(jnp.asarray(same)), resize.clean(same), atol=1e-6)


def test_the_network_is_that_of_the_golden_activations(params, stored):
    network = jax.jit(partial(InceptionV3().apply, {"params": params}))
    kinds = ("photo", "noise")
    resized = [resize.tensorflow(jnp.asarray(stored[f"{kind}/images"])) for kind in kinds]
    for name, array in network(jnp.concatenate(resized))._asdict().items():
        expected = np.concatenate([stored[f"{kind}/{name}"] for kind in kinds])
        errors = np.linalg.norm(array - expected, axis=1) / np.linalg.norm(expected, axis=1)
        assert errors.max() < 1e-5, (name, errors)


def test_features_depend_on_neither_devices_nor_batches(stored):
    """Eight devices; gray images count as gray RGB ones; the last batch counts."""
    images = np.concatenate(
        [stored["photo/images"][:, ::2, ::2], stored["noise/images"][:, :, :32]]
    )
    images = images[..., :1]
    whole = make_extractor("random", batch_size=8)
    found = whole(images)
    assert found["pool"].shape == (6, 2048)
    assert found["spatial"].shape == (6, 2023)
    assert not whole.is_fid
    one_device = jax.jit(
        lambda params, images: InceptionV3().apply({"params": params}, resize.tensorflow(images))
    )
    alone = one_device(inception_weights.load("random")[0], jnp.asarray(images.repeat(3, axis=-1)))
    for name, array in alone._asdict().items():
        assert_allclose(found[name], array, rtol=1e-4, atol=1e-5)
    again = whole(np.tile(images, (3, 1, 1, 3))[:11])
    assert_allclose(again["pool"][6:], found["pool"][:5], rtol=1e-4, atol=1e-5)


def test_unknown_features_and_ways():
    with pytest.raises(ValueError, match="known: inception, random, pixels, MODULE:FUNCTION"):
        make_extractor("dino")
    with pytest.raises(ValueError, match="known: tensorflow, pytorch-fid, clean"):
        make_extractor("random", resize="bicubic")
    with pytest.raises(ValueError, match="No module named 'nowhere'"):
        make_extractor("nowhere:f")
    with pytest.raises(ValueError, match="has no attribute 'f'"):
        make_extractor("math:f")


def brightness(images):
    """For `--features test_inception:brightness`."""
    return images.reshape(len(images), -1)[:, :2].astype(np.float32)


def broken(images):
    return np.full((len(images), 2), np.nan)


def test_functions_of_the_users():
    images = np.arange(40, dtype=np.uint8).reshape(10, 2, 2, 1)
    extract = make_extractor("test_inception:brightness", batch_size=3)
    assert_array_equal(extract(images)["features"], images.reshape(10, 4)[:, :2])
    assert (extract.is_fid, extract.main) == (False, "features")
    with pytest.raises(ValueError, match="not finite"):
        make_extractor("test_inception:broken")(images)


def test_old_files_of_pytorch(golden):
    found = torch_reader.read(golden / "torch_legacy" / "small.pth")
    with np.load(golden / "torch_legacy" / "small.npz") as expected:
        assert found.keys() == set(expected.files)
        for name, array in found.items():
            assert array.dtype == expected[name].dtype
            assert_array_equal(array, expected[name])


def test_damaged_old_files_get_one_line(golden, tmp_path):
    data = (golden / "torch_legacy" / "small.pth").read_bytes()
    path = tmp_path / "bad.pth"
    for length in (0, 10, 100, 400, 700, len(data) - 1):
        path.write_bytes(data[:length])
        with pytest.raises(ValueError, match=r"bad\.pth"):
            torch_reader.read(path)
    path.write_bytes(data.replace(b"torch._utils\n_rebuild_tensor_v2", b"os\nsystem"))
    with pytest.raises(ValueError, match=r"refers to 'os\.system'"):
        torch_reader.read(path)


def test_weights_from_a_file(tmp_path, monkeypatch, params):
    """A file as the published one, but for its numbers; both formats of PyTorch are looked for."""
    path = tmp_path / inception_weights.NAME
    torch_writer.write(path, inception_weights.random_state_dict())
    with pytest.raises(ValueError, match=r"is not pt_inception.*its sha256 is"):
        inception_weights.load(str(path))
    monkeypatch.setattr(inception_weights, "SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
    found, about = inception_weights.load(str(path), cache_dir=tmp_path / "first")
    jax.tree.map(assert_array_equal, found, params)
    assert "sha256" in about
    # Downloaded once, and kept.
    monkeypatch.setattr(inception_weights, "ADDRESS", path.as_uri())
    inception_weights.load("published", cache_dir=tmp_path / "cache")
    monkeypatch.setattr(inception_weights, "ADDRESS", "http://127.0.0.1:9/none")
    again, _ = inception_weights.load("published", cache_dir=tmp_path / "cache")
    jax.tree.map(assert_array_equal, again, params)
    (kept,) = (tmp_path / "cache").glob("*.npz")
    kept.write_bytes(kept.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"npz is damaged: .*; delete it"):
        inception_weights.load("published", cache_dir=tmp_path / "cache")
    with pytest.raises(FileNotFoundError, match="download it elsewhere and give its path"):
        inception_weights.load("published", cache_dir=tmp_path / "other")
    assert os.listdir(tmp_path / "other") == []


def test_missing_weights_are_refused():
    with pytest.raises(FileNotFoundError, match="give published, random, or the path"):
        inception_weights.load("/nowhere.pth")
    state = inception_weights.random_state_dict()
    del state["Mixed_6d.branch1x1.conv.weight"]
    with pytest.raises(ValueError, match=r"have no Mixed_6d\.branch1x1\.conv\.weight"):
        inception_weights.from_state_dict(state)
