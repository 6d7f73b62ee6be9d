"""Published references are recognized by their names; others must record their features."""

import json
from pathlib import Path

import numpy as np
import pytest

from diffusion_jax.evaluation import (
    adm_check,
    inception_weights,
    published_references,
    reference_checks,
    references,
)
from diffusion_jax.evaluation.evaluator import Evaluator
from diffusion_jax.evaluation.features import Extractor
from diffusion_jax.evaluation.image_sets import ImageSet
from diffusion_jax.evaluation.references import Reference

ADM = {
    "mu": np.broadcast_to(0.0, 2048),
    "sigma": np.broadcast_to(0.0, (2048, 2048)),
    "mu_s": np.broadcast_to(0.0, 2023),
    "sigma_s": np.broadcast_to(0.0, (2023, 2023)),
    "arr_0": np.broadcast_to(np.uint8(0), (10_000, 64, 64, 3)),
}
ADM_NAME = "VIRTUAL_imagenet64_labeled.npz"
OF_64 = {"shape": [64, 64, 3], "origin": {"crop": "center-crop"}}
OF_32 = {"shape": [32, 32, 3], "origin": {"crop": "center-crop-dhariwal"}}
FID = {"features": "InceptionV3 of 2015-12-05", "weights": inception_weights.PUBLISHED}
FID |= {"resize": "tensorflow"}


def extractor(about=FID, size=2048):
    def features(images):
        return {"pool": np.random.default_rng(0).normal(size=(len(images), size))}

    return Extractor(features, about, is_fid=True, main="pool")


def images_of(side, count=3):
    pixels = np.random.default_rng(0).integers(0, 256, (count, side, side, 3), np.uint8)
    shape = (side, side, 3)
    return ImageSet(count, shape, lambda first, number: pixels[first : first + number], {}, {})


def test_arrays_laid_out_as_adms_are_not_taken_for_adms():
    """Random arrays of that layout had ADM's crop, and hence the features of FID."""
    assert published_references.about(Path("mine.npz"), ADM) == {}
    known = published_references.about(Path("folder") / ADM_NAME, ADM)
    assert known["data"] == {"shape": [64, 64, 3], "origin": {"crop": "center-crop-dhariwal"}}
    assert known.items() >= FID.items()
    for name, array in (("arr_0", ADM["arr_0"][:, :32]), ("mu_s", ADM["mu"]), ("mu", ADM["mu_s"])):
        assert published_references.about(Path(ADM_NAME), ADM | {name: array}) == {}
    reference = Reference({}, ADM["arr_0"], known)
    with pytest.raises(ValueError, match=r"is center-crop-dhariwal \(ADM's VIRTUAL_.* by its name"):
        reference_checks.check_same_data(reference, OF_64, "the images")


@pytest.mark.parametrize(
    ("changed", "value"), [("weights", "random, seed 0"), ("resize", "clean"), ("features", "x")]
)
def test_published_references_have_the_features_of_published_fids(changed, value):
    reference = Reference({}, None, published_references.about(Path(ADM_NAME), ADM))
    reference_checks.check_same_features(reference, FID)
    for allow in (False, True):
        with pytest.raises(ValueError, match=f"reference has {changed}"):
            reference_checks.check_same_features(
                reference, FID | {changed: value}, allow_unknown=allow
            )


def statistics(folder, name, **more):
    """Writes a file like EDM's, with a mean and a covariance alone."""
    path = folder / name
    np.savez(path, mu=np.zeros(2048), sigma=np.eye(2048), **more)
    return str(path)


def test_edms_reference_is_rejected_for_images_of_another_size_or_crop(tmp_path):
    reference = references.load(statistics(tmp_path, "imagenet-64x64-baseline.npz"), "pool")
    with pytest.raises(ValueError, match=r"resolution of the reference is \(64, 64\) \(EDM's"):
        reference_checks.check_same_data(reference, OF_32, "the images")
    with pytest.raises(ValueError, match=r"center-crop-dhariwal \(EDM's, for ADM, .* name\)"):
        reference_checks.check_same_data(reference, OF_64, "the images")
    reference_checks.check_same_data(reference, OF_32 | {"shape": [64, 64, 3]}, "the images")
    assert reference.has_known_features


def test_a_reference_of_unknown_features_is_rejected_or_named_so(tmp_path):
    """Examples: gmongaras's mean.npy and cov.npy, which are torchvision's, and a renamed file."""
    file = statistics(tmp_path, "renamed.npz")
    np.save(tmp_path / "mean.npy", np.zeros(2048))
    np.save(tmp_path / "cov.npy", np.eye(2048))
    pair = f"{tmp_path / 'mean.npy'},{tmp_path / 'cov.npy'}"
    for reference in (file, pair):
        with pytest.raises(ValueError, match=r"record its features.*--allow_mismatch"):
            Evaluator.from_file(tmp_path / "out", extractor(), reference)
    logged = []
    evaluator = Evaluator.from_file(
        tmp_path / "out", extractor(), file, allow_mismatch=True, log=logged.append
    )
    found = evaluator(images_of(32))
    assert found["metrics"].keys() == {"FD"}
    assert found["reference"]["features"] == "not recorded"
    assert logged[0].startswith("The reference does not record its features")
    assert logged[1].startswith("The reference does not record the size and crop of its images")
    assert "only if they were 32x32" in logged[1]
    assert found["note"].startswith("3 images for 2048 features")
    assert all(line in found["note"] for line in logged)


def test_the_distance_to_recorded_features_is_fid(tmp_path):
    """The same call with a reference that records them."""
    about = FID | {"data": {"shape": [32, 32, 3], "origin": {}}}
    file = statistics(tmp_path, "ours.npz", about=np.array(json.dumps(about)))
    found = Evaluator.from_file(tmp_path / "out", extractor(), file)(images_of(32))
    assert found["metrics"].keys() == {"FID"}
    assert found["reference"]["features"] == "InceptionV3 of 2015-12-05"


DIGITS = {"shape": [8, 8, 1], "origin": {"crop": "center-crop"}, "name": "digits", "split": "all"}


@pytest.mark.parametrize(
    ("about", "data", "words"),
    [
        ({}, {}, []),
        ({"count": 640}, {}, []),
        ({"count": 100}, {}, ["100 images for 64 features"]),
        ({"data": DIGITS | {"fingerprint": "a"}}, DIGITS | {"fingerprint": "a"}, []),
        (
            {"data": DIGITS | {"fingerprint": "ab", "split": "test"}},
            DIGITS | {"fingerprint": "cd"},
            ["digits, test, fingerprint ab", "digits, all, fingerprint cd"],
        ),
        # What --allow_mismatch accepts is in the result, too.
        (
            {"data": DIGITS | {"origin": {"crop": "stretch"}}},
            DIGITS,
            ["crop of the reference is stretch, and the crop of the images is center-crop"],
        ),
    ],
)
def test_what_makes_a_distance_less_meaningful_is_a_warning(about, data, words):
    reference = Reference({"features": (np.zeros(64), np.eye(64))}, None, {"features": "a"} | about)
    found = reference_checks.warnings(reference, {"features": "a"}, data, (8, 8, 1))
    assert len(found) == bool(words)
    assert all(word in found[0] for word in words)


# ADM's check. Of admnet_imagenet64.npz: guided-diffusion, issue 75, and the row "ADM" in the paper.
ADMNET = {"FID": 2.6142, "sFID": 3.77, "precision": 0.73, "recall": 0.63}
DROPOUT = {"FID": 2.07, "sFID": 4.29, "precision": 0.74, "recall": 0.63}


class Judged(Evaluator):
    """Evaluator with given metrics."""

    def __call__(self, images):
        return {"metrics": images.about["metrics"]}


def checked(monkeypatch, metrics, about=None, count=50_000, shape=(64, 64, 3)):
    images = ImageSet(count, shape, lambda first, number: ..., {"metrics": metrics}, {})
    monkeypatch.setattr(adm_check, "from_files", lambda path, number, channels: images)
    about = published_references.about(Path(ADM_NAME), ADM) if about is None else about
    evaluator = Judged(Path(), extractor(), Reference({}, ADM["arr_0"], about), "reference.npz")
    return adm_check.compare(evaluator, Path("samples.npz"))


def test_the_check_agrees_for_the_metrics_of_the_published_samples(monkeypatch):
    found = checked(monkeypatch, {"IS": 1.0, **ADMNET})
    assert [metric.name for metric in found] == ["IS", *ADMNET]
    assert all(metric.agrees for metric in found)
    assert {metric.name: metric.published for metric in found} == {
        "IS": None,
        "FID": 2.61,
        "sFID": 3.77,
        "precision": 0.73,
        "recall": 0.63,
    }


def test_the_check_fails_for_the_metrics_of_another_model(monkeypatch):
    """The row "ADM (dropout)" of the paper is of other samples; only its recall is equal."""
    found = checked(monkeypatch, {"IS": 1.0, **DROPOUT})
    agreeing = {metric.name for metric in found if metric.agrees}
    assert agreeing <= {"IS", "precision", "recall"}


def test_the_report_has_the_verdicts_and_an_exit_code(monkeypatch):
    lines, code = adm_check.report(checked(monkeypatch, {"IS": 1.0, **ADMNET}))
    assert code == 0
    assert "admnet_imagenet64.npz" in lines[0]
    assert not any("NOT" in line for line in lines)
    assert "FID: 2.6142, as published (2.61)" in lines[2]
    lines, code = adm_check.report(checked(monkeypatch, {"IS": 1.0, **ADMNET, "FID": 2.07}))
    assert code == 1
    assert [line.split(":")[0].strip() for line in lines if "NOT" in line] == ["FID"]


@pytest.mark.parametrize("name", ADMNET)
@pytest.mark.parametrize("sign", [-1, 1])
def test_the_check_fails_for_one_metric_out_of_tolerance(monkeypatch, name, sign):
    found = checked(monkeypatch, {"IS": 1.0, **ADMNET, name: ADMNET[name] + sign * 0.05})
    assert [metric.name for metric in found if not metric.agrees] == [name]


def test_the_check_takes_the_published_files_alone(monkeypatch):
    with pytest.raises(ValueError, match=r"give VIRTUAL_imagenet64_labeled\.npz"):
        checked(monkeypatch, ADMNET, about={"features": "InceptionV3 of 2015-12-05"})
    for size in ({"count": 10_000}, {"shape": (32, 32, 3)}):
        with pytest.raises(ValueError, match=r"admnet_imagenet64\.npz, which has 50,000"):
            checked(monkeypatch, ADMNET, **size)
