"""Saved results are reused only with the versions that computed them."""

import dataclasses

import numpy as np
import pytest

from diffusion_jax.evaluation import feature_metrics, features, metrics, moments
from diffusion_jax.evaluation.evaluator import Evaluator
from diffusion_jax.evaluation.features import make_extractor
from diffusion_jax.evaluation.image_sets import ImageSet
from diffusion_jax.evaluation.references import Reference
from diffusion_jax.report import evaluations
from diffusion_jax.runs import datasets
from diffusion_jax.runs.reference import make_reference

PIXELS = np.random.default_rng(0).integers(0, 256, (70, 8, 8, 1), np.uint8)


def images(read=lambda first, count: PIXELS[first : first + count]):
    return ImageSet(70, (8, 8, 1), read, {"images": "noise"}, {})


@pytest.fixture
def logged():
    return []


@pytest.fixture
def make_evaluator(tmp_path, logged):
    """A function that makes an evaluator, with a reference that has images."""
    about = {"features": "pixels"}
    reference = Reference({"features": (np.zeros(64), np.eye(64))}, PIXELS[:20], about)
    reference.save(str(tmp_path / "reference.npz"))

    def make():
        file = str(tmp_path / "reference.npz")
        extractor = make_extractor("pixels")
        return Evaluator.from_file(tmp_path / "out", extractor, file, log=logged.append)

    return make


def test_a_result_records_where_and_when_it_was_computed(make_evaluator, logged):
    found = make_evaluator()(images())
    assert found["metric_versions"] == metrics.versions()
    assert found["metric_versions"].keys() == metrics.definitions().keys()
    assert found["features"]["features_version"] == features.VERSIONS["pixels"]
    assert found["made"].keys() == {"diffusion-jax", "jax", "devices", "date"}
    assert found["made"]["date"].endswith("+00:00")
    assert logged == []
    assert make_evaluator()(images()) == found
    (line,) = logged
    assert "was read: computed at " + found["made"]["date"] in line
    assert f"diffusion-jax {found['made']['diffusion-jax']}" in line
    assert "FID 1" in line
    assert "features 1" in line


def test_a_result_of_another_metric_version_is_kept_and_not_reused(
    make_evaluator, monkeypatch, tmp_path
):
    before = make_evaluator()(images())
    (old,) = (tmp_path / "out").glob("result-*.json")
    text = old.read_text()
    metric = feature_metrics.METRICS["precision, recall"]
    changed = dataclasses.replace(metric, version=2, score=lambda *given: (0.25, 0.5))
    monkeypatch.setitem(feature_metrics.METRICS, "precision, recall", changed)
    after = make_evaluator()(images())
    assert (after["metrics"]["precision"], after["metrics"]["recall"]) == (0.25, 0.5)
    assert after["metrics"]["FD"] == before["metrics"]["FD"]
    assert old.read_text() == text
    assert len(list((tmp_path / "out").glob("result-*.json"))) == 2


def test_features_of_another_version_are_kept_and_not_reused(make_evaluator, monkeypatch, tmp_path):
    before = make_evaluator()(images())
    (kept,) = (tmp_path / "out").glob("features-*")  # of the reference's own images
    monkeypatch.setitem(features.VERSIONS, "pixels", 2)
    monkeypatch.setattr(features, "_pixels", lambda rows: {"features": rows.reshape(-1, 64) / 2})
    after = make_evaluator()(images())
    assert after["metrics"]["FD"] != before["metrics"]["FD"]
    assert kept.is_dir()


def test_a_reference_with_features_or_moments_of_another_version_is_rejected(
    make_evaluator, monkeypatch, tmp_path
):
    digits = datasets.from_name("digits", split="all", data_dir="")
    path = str(tmp_path / "digits.npz")
    make_reference(digits, make_extractor("pixels"), path, count=9, keep_images=0)
    Evaluator.from_file(tmp_path, make_extractor("pixels"), path)
    monkeypatch.setattr(moments, "VERSION", 2)
    with pytest.raises(ValueError, match="has moments_version: 1; here it is: 2"):
        Evaluator.from_file(tmp_path, make_extractor("pixels"), path)
    monkeypatch.undo()
    monkeypatch.setitem(features.VERSIONS, "pixels", 2)
    with pytest.raises(ValueError, match="has features_version: 1; here it is: 2"):
        Evaluator.from_file(tmp_path, make_extractor("pixels"), path)
    make_evaluator()  # the version is unknown, as of a published reference


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"metrics": {"FD', "is not readable as JSON"),
        ("[1]", "holds no JSON object"),
        ('{"note": ""}', "holds no metrics"),
        ('{"metrics": {"FD": "low"}}', "holds no metrics"),
        ('{"metrics": {"FD": 1}, "made": []}', "has no object 'made'"),
    ],
)
def test_a_damaged_result_is_one_line_of_error(make_evaluator, tmp_path, text, message):
    make_evaluator()(images())
    (path,) = (tmp_path / "out").glob("result-*.json")
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        make_evaluator()(images())
    assert str(caught.value).startswith(str(path))
    assert str(caught.value).endswith("; delete it to evaluate again")
    assert "\n" not in str(caught.value)


def test_a_report_has_a_row_for_each_version(make_evaluator, monkeypatch, tmp_path):
    make_evaluator()(images())
    monkeypatch.setattr(moments, "VERSION", 2)
    make_evaluator()(images())
    head, rows = evaluations.as_table(evaluations.read(tmp_path / "out", 1000).results)
    assert {row[head.index("versions")][:5] for row in rows} == {"FID 1", "FID 2"}


def test_features_record_their_version_or_the_digest_of_their_code(monkeypatch):
    monkeypatch.setitem(features.VERSIONS, "inception", 7)
    assert make_extractor("random").about["features_version"] == 7
    assert len(make_extractor("tests.tiny:tiny_config").about["code_sha256"]) == 64
