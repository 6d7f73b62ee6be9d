"""Saved results and features: which are read again, and which are of an older version."""

import dataclasses
import hashlib
import json

import numpy as np
import pytest

from diffusion_jax.evaluation import feature_metrics, feature_shards, features, metrics, moments
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
def said():
    return []


@pytest.fixture
def judge(tmp_path, said):
    """Makes the judge of this version, with a reference that has images."""
    reference = Reference({"features": (np.zeros(64), np.eye(64))}, PIXELS[:20])
    reference.save(str(tmp_path / "reference.npz"))

    def make():
        file = str(tmp_path / "reference.npz")
        return Evaluator.of_file(tmp_path / "out", make_extractor("pixels"), file, tell=said.append)

    return make


def test_a_result_says_where_and_when_it_was_computed(judge, said):
    found = judge()(images())
    assert found["metric_versions"] == metrics.versions()
    assert found["metric_versions"].keys() == metrics.definitions().keys()
    assert found["features"]["features_version"] == features.VERSIONS["pixels"]
    assert found["made"].keys() == {"diffusion-jax", "jax", "devices", "date"}
    assert found["made"]["date"].endswith("+00:00")
    assert said == []
    assert judge()(images()) == found
    (line,) = said
    assert "was read: computed at " + found["made"]["date"] in line
    assert f"diffusion-jax {found['made']['diffusion-jax']}" in line
    assert "FID 1" in line
    assert "features 1" in line


def test_a_metric_of_another_version_is_computed_anew(judge, said, monkeypatch, tmp_path):
    before = judge()(images())
    (old,) = (tmp_path / "out").glob("result-*.json")
    text = old.read_text()
    metric = feature_metrics.METRICS["precision, recall"]
    mended = dataclasses.replace(metric, version=2, score=lambda *given: (0.25, 0.5))
    monkeypatch.setitem(feature_metrics.METRICS, "precision, recall", mended)
    after = judge()(images())
    assert (after["metrics"]["precision"], after["metrics"]["recall"]) == (0.25, 0.5)
    assert after["metrics"]["FD"] == before["metrics"]["FD"]
    (line,) = said
    assert f"{old} is of an older version (precision, recall 1 -> 2): it is kept" in line
    assert old.read_text() == text
    assert len(list((tmp_path / "out").glob("result-*.json"))) == 2


def test_features_of_another_version_are_computed_anew(judge, said, monkeypatch, tmp_path):
    before = judge()(images())
    (kept,) = (tmp_path / "out").glob("features-*")  # of the reference's own images
    monkeypatch.setitem(features.VERSIONS, "pixels", 2)
    monkeypatch.setattr(features, "_pixels", lambda rows: {"features": rows.reshape(-1, 64) / 2})
    after = judge()(images())
    assert after["metrics"]["FD"] != before["metrics"]["FD"]
    assert any("is of an older version (features 1 -> 2)" in line for line in said)
    assert any(f"{kept} has features of an older version" in line for line in said)
    assert kept.is_dir()


def test_files_without_a_version_are_not_used(judge, said, tmp_path):
    """As they were written before there were versions, by name and content."""
    now = judge()(images())
    (path,) = (tmp_path / "out").glob("result-*.json")
    old = {n: v for n, v in now.items() if n not in ("metric_versions", "made")}
    old["features"], old["metrics"] = {"features": "pixels"}, {"FD": 0.0}
    known = {n: v for n, v in old.items() if n not in ("metrics", "definitions", "note")}
    digest = hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:12]
    path.unlink()
    path = path.with_name(f"result-{digest}.json")
    path.write_text(json.dumps(old))
    settings = {n: old[n] for n in ("num_samples", "images", "features")}
    stale = feature_shards.shard_folder(tmp_path / "out", settings)
    stale.mkdir()
    np.savez(stale / "00000000.npz", features=np.zeros((70, 64), np.float32))
    assert judge()(images())["metrics"] == now["metrics"]
    assert any(f"{path} is of an older version (FID ? -> 1" in line for line in said)
    assert any(f"{stale} has features of an older version" in line for line in said)
    assert json.loads(path.read_text()) == old
    assert list(stale.iterdir())


def test_a_reference_of_other_features_or_moments_is_refused(judge, monkeypatch, tmp_path):
    digits = datasets.of_name("digits", split="all", data_dir="")
    path = str(tmp_path / "digits.npz")
    make_reference(digits, make_extractor("pixels"), path, count=9, keep_images=0)
    Evaluator.of_file(tmp_path, make_extractor("pixels"), path)
    monkeypatch.setattr(moments, "VERSION", 2)
    with pytest.raises(ValueError, match="has moments_version: 1; here it is: 2"):
        Evaluator.of_file(tmp_path, make_extractor("pixels"), path)
    monkeypatch.undo()
    monkeypatch.setitem(features.VERSIONS, "pixels", 2)
    with pytest.raises(ValueError, match="has features_version: 1; here it is: 2"):
        Evaluator.of_file(tmp_path, make_extractor("pixels"), path)
    # One of ours that has no version is of the first; of a published one nothing is known.
    Reference({"features": (np.zeros(64), np.eye(64))}, None, {"features": "pixels"}).save(
        str(tmp_path / "first.npz")
    )
    with pytest.raises(ValueError, match="has features_version: 1; here it is: 2"):
        Evaluator.of_file(tmp_path, make_extractor("pixels"), str(tmp_path / "first.npz"))
    judge()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"metrics": {"FD', "is not readable as JSON"),
        ("[1]", "holds no JSON object"),
        ('{"note": ""}', "holds no metrics"),
        ('{"metrics": {"FD": "low"}}', "holds no metrics"),
    ],
)
def test_a_damaged_result_gets_one_line(judge, tmp_path, text, message):
    judge()(images())
    (path,) = (tmp_path / "out").glob("result-*.json")
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        judge()(images())
    assert str(caught.value).startswith(str(path))
    assert str(caught.value).endswith("; delete it to evaluate again")
    assert "\n" not in str(caught.value)


def test_a_report_tells_versions_apart(judge, monkeypatch, tmp_path):
    judge()(images())
    monkeypatch.setattr(moments, "VERSION", 2)
    judge()(images())
    head, rows = evaluations.as_table(evaluations.read(tmp_path / "out", 1000).results)
    assert {row[head.index("versions")][:5] for row in rows} == {"FID 1", "FID 2"}


def test_every_kind_of_features_says_its_version_or_its_code(monkeypatch):
    monkeypatch.setitem(features.VERSIONS, "inception", 7)
    assert make_extractor("random").about["features_version"] == 7
    assert len(make_extractor("tests.tiny:tiny_config").about["code_sha256"]) == 64


# Of two sets of normal vectors: the version, and its numbers.
OF_VERSION = {
    "FID": (1, 0.3344548840),
    "IS": (1, 1.5106505865, 0.0209277598),
    "KID": (1, 0.0091992792, 0.0012724105),
    "precision, recall": (1, 0.8991666667, 0.6372727273),
}


def test_numbers_change_only_with_their_version():
    """If this fails after a change that is right, raise the version beside the code."""
    rows = np.random.default_rng(1).normal(size=(1200, 16))
    real = np.random.default_rng(2).normal(size=(1100, 16)) * 1.1
    one, other = moments.Moments.of(rows), moments.Moments.of(real)
    found = {
        "FID": [
            moments.frechet_distance(one.mean, one.covariance, other.mean, other.covariance),
        ]
    }
    for name, metric in feature_metrics.METRICS.items():
        found[name] = metric.score(*([rows] if metric.of_logits else [rows, real]), 0)
    for name, numbers in found.items():
        version, *pinned = OF_VERSION[name]
        assert metrics.versions()[name] == version
        assert list(numbers) == pytest.approx(pinned, rel=1e-5), name
    pixels = make_extractor("pixels")(np.array([[[[0]], [[255]]]], np.uint8))["features"]
    assert pixels.tolist() == [[-1, 1]]
