"""Published references are recognized by content or by name."""

from pathlib import Path

import numpy as np
import pytest

from diffusion_jax.evaluation import published_references, reference_checks, references
from diffusion_jax.evaluation.evaluator import Evaluator
from diffusion_jax.evaluation.features import Extractor
from diffusion_jax.evaluation.image_sets import ImageSet

ADM = {
    "mu": np.broadcast_to(0.0, 2048),
    "sigma": np.broadcast_to(0.0, (2048, 2048)),
    "mu_s": np.broadcast_to(0.0, 2023),
    "sigma_s": np.broadcast_to(0.0, (2023, 2023)),
    "arr_0": np.broadcast_to(np.uint8(0), (10_000, 64, 64, 3)),
}
OF_64 = {"shape": [64, 64, 3], "origin": {"crop": "center-crop"}}
OF_32 = {"shape": [32, 32, 3], "origin": {"crop": "center-crop-dhariwal"}}


def test_adms_reference_is_recognized_under_any_name():
    known = published_references.about(Path("mine.npz"), ADM)
    assert known["data"] == {"shape": [64, 64, 3], "origin": {"crop": "center-crop-dhariwal"}}
    # Content takes precedence over the name of another file.
    assert published_references.about(Path("imagenet-64x64.npz"), ADM) == known
    for name, change in (("arr_0", ADM["arr_0"][:9999]), ("mu_s", ADM["mu"]), ("mu", ADM["mu_s"])):
        assert published_references.about(Path("mine.npz"), ADM | {name: change}) == {}
    reference = references.Reference({}, ADM["arr_0"], known)
    with pytest.raises(ValueError, match=r"is center-crop-dhariwal \(ADM's VIRTUAL_.* content\)"):
        reference_checks.check_same_data(reference, OF_64, "the images")


def statistics(folder, name):
    """Writes a file like EDM's, with a mean and a covariance alone."""
    path = folder / name
    np.savez(path, mu=np.zeros(2048), sigma=np.eye(2048))
    return str(path)


def test_edms_reference_is_rejected_for_images_of_another_size_or_crop(tmp_path):
    reference = references.load(statistics(tmp_path, "imagenet-64x64-baseline.npz"), "pool")
    with pytest.raises(ValueError, match=r"resolution of the reference is \(64, 64\) \(EDM's"):
        reference_checks.check_same_data(reference, OF_32, "the images")
    with pytest.raises(ValueError, match=r"center-crop-dhariwal \(EDM's, for ADM, .* name\)"):
        reference_checks.check_same_data(reference, OF_64, "the images")
    reference_checks.check_same_data(reference, OF_32 | {"shape": [64, 64, 3]}, "the images")


def test_a_reference_of_unknown_images_gives_a_warning(tmp_path):
    """EDM's file under another name is an example."""
    logged = []
    extractor = Extractor(
        lambda images: {"pool": np.random.default_rng(0).normal(size=(len(images), 2048))},
        {"features": "InceptionV3 of 2015-12-05"},
        is_fid=True,
        main="pool",
    )
    file = statistics(tmp_path, "renamed.npz")
    pixels = np.zeros((3, 32, 32, 3), np.uint8)
    images = ImageSet(3, (32, 32, 3), lambda first, count: pixels[first : first + count], {}, {})
    evaluator = Evaluator.from_file(tmp_path / "out", extractor, file, log=logged.append)
    note = evaluator(images)["note"]
    (line,) = logged
    assert line.startswith("The reference does not record the size and crop of its images")
    assert "only if they were 32x32" in line
    assert note.startswith("3 images for 2048 features")
    assert note.endswith(line)
