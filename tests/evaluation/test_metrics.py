"""Metrics against known values and plain definitions; references; sweep tables."""

import json

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from table_cases import PINNED
from tiny import tiny_config

from diffusion_jax.evaluation import (
    feature_metrics,
    feature_shards,
    metrics,
    reference_checks,
    references,
    sweep_table,
)
from diffusion_jax.evaluation.features import Extractor, make_extractor
from diffusion_jax.evaluation.moments import Moments, frechet_distance, sum_of
from diffusion_jax.evaluation.references import Reference
from diffusion_jax.runs.evaluate import choose_labels


@pytest.fixture
def features():
    """1,000 correlated vectors with 20 features, far from 0."""
    generator = np.random.default_rng(0)
    mix = generator.standard_normal((20, 20))
    return (generator.standard_normal((1000, 20)) @ mix + 100).astype(np.float32)


def test_moments_of_parts_add_to_the_moments_of_all_vectors(features):
    values = features.astype(np.float64)
    for cuts in ([], [1], [7, 300, 301], list(range(10, 1000, 10))):
        parts = np.split(np.random.default_rng(1).permutation(features), cuts)
        moments = sum_of(Moments.of(part) for part in parts)
        assert moments.count == 1000
        assert_allclose(moments.mean, values.mean(0), rtol=1e-13)
        assert_allclose(moments.covariance, np.cov(values.T), rtol=1e-9, atol=1e-11)


def test_moments_reject_non_finite_features_and_a_covariance_of_one_image(features):
    features[3, 5] = np.nan
    with pytest.raises(ValueError, match=r"image 3 \(of 1000\) are not all finite"):
        Moments.of(features)
    with pytest.raises(ValueError, match="1 images have no covariance"):
        _ = Moments.of(features[:1]).covariance


def covariance(seed, size, rank=None):
    root = np.random.default_rng(seed).standard_normal((size, rank or 2 * size))
    return root @ root.T / root.shape[1]


def test_frechet_distance_has_its_closed_form_for_commuting_covariances():
    mean, other = np.zeros(4), np.array([1.0, 2, 0, 0])
    one, two = np.diag([1.0, 4, 9, 0]), np.diag([4.0, 4, 1, 0])
    # Commuting covariances: the squared distance of the means and of the standard deviations.
    assert frechet_distance(mean, one, other, two) == pytest.approx(5 + 1 + 0 + 4)
    spread = covariance(0, 30)
    assert frechet_distance(np.ones(30), spread, np.ones(30), spread) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("rank", [None, 30])
def test_frechet_distance_equals_its_definition_with_a_matrix_root(rank):
    """Singular covariances, which fewer images than features have, included."""
    one, two = covariance(0, 40, rank), covariance(1, 40, rank)
    mean = np.linspace(0, 1, 40)
    found = frechet_distance(mean, one, np.zeros(40), two)
    roots = np.sqrt(np.linalg.eigvals(one @ two).real.clip(0))
    expected = (mean**2).sum() + np.trace(one + two) - 2 * roots.sum()
    assert_allclose(found, expected, rtol=1e-6 if rank else 1e-11)
    assert_allclose(frechet_distance(np.zeros(40), two, mean, one), found, rtol=1e-6)
    if rank is None:
        root = pytest.importorskip("scipy.linalg").sqrtm(one @ two).real
        assert_allclose(found, (mean**2).sum() + np.trace(one + two - 2 * root), rtol=1e-11)


def test_frechet_distance_is_precise_for_close_singular_covariances():
    """Compared with the singular values of the images, which are fewer than the features."""
    generator = np.random.default_rng(0)
    one = generator.standard_normal((20, 60))
    two = one + 0.01 * generator.standard_normal((20, 60))
    one, two = one - one.mean(0), two - two.mean(0)
    trace = np.linalg.svd(one @ two.T / 19, compute_uv=False).sum()
    expected = ((one**2).sum() + (two**2).sum()) / 19 - 2 * trace
    zeros = np.zeros(60)
    found = frechet_distance(zeros, np.cov(one.T), zeros, np.cov(two.T))
    assert_allclose(found, expected, rtol=1e-9)
    with pytest.raises(ValueError, match="eigenvalue -1"):
        frechet_distance(zeros, -np.eye(60), zeros, np.eye(60))


def test_frechet_distance_rejects_other_sizes_and_non_finite_statistics():
    with pytest.raises(ValueError, match="2 and 3 features"):
        frechet_distance(np.zeros(2), np.eye(2), np.zeros(3), np.eye(3))
    with pytest.raises(ValueError, match="non-finite"):
        frechet_distance(np.zeros(2), np.full((2, 2), np.inf), np.zeros(2), np.eye(2))


def test_inception_score_equals_its_definition():
    # One-hot predictions, uniform over classes: the number of classes. Uniform predictions: 1.
    one_hot = 1000 * np.eye(10)[np.arange(200) % 10]
    assert feature_metrics.inception_score(one_hot, splits=4) == pytest.approx((10, 0))
    assert feature_metrics.inception_score(np.zeros((50, 7))) == pytest.approx((1, 0))
    logits = np.random.default_rng(0).standard_normal((60, 5)).astype(np.float32)
    p = np.exp(logits.astype(float)) / np.exp(logits.astype(float)).sum(1, keepdims=True)
    parts = [
        np.exp(np.mean([sum(q * np.log(q / part.mean(0))) for q in part]))
        for part in np.split(p, 3)
    ]
    expected = np.mean(parts), np.std(parts)
    assert feature_metrics.inception_score(logits, splits=3) == pytest.approx(expected, rel=1e-12)
    with pytest.raises(ValueError, match="3 images cannot be split into 10"):
        feature_metrics.inception_score(logits[:3])


@pytest.mark.parametrize(("images", "splits"), [(33, 10), (57, 10), (19, 10), (64, 7)])
def test_inception_score_splits_any_count_as_torch_fidelity(images, splits):
    """By the slices in its program, without its permutation of the images."""
    logits = 3 * np.random.default_rng(1).standard_normal((images, 5))
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    scores = []
    for i in range(splits):
        chunk = p[(i * images // splits) : ((i + 1) * images // splits)]
        divergence = chunk * (np.log(chunk) - np.log(chunk.mean(0, keepdims=True)))
        scores.append(np.exp(divergence.sum(1).mean()))
    expected = np.mean(scores), np.std(scores)
    found = feature_metrics.inception_score(logits, splits=splits)
    assert found == pytest.approx(expected, rel=1e-12)


def test_kernel_distance_equals_its_definition():
    generator = np.random.default_rng(0)
    x, y = generator.standard_normal((30, 4)), generator.standard_normal((30, 4)) + 0.5

    def kernel(a, b):
        return (a @ b / 4 + 1) ** 3

    within = np.mean([[kernel(a, b) for j, b in enumerate(x) if j != i] for i, a in enumerate(x)])
    within += np.mean([[kernel(a, b) for j, b in enumerate(y) if j != i] for i, a in enumerate(y)])
    expected = within - 2 * np.mean([[kernel(a, b) for a in x] for b in y])
    mean, deviation = feature_metrics.kernel_distance(x, y, subsets=3, size=30)
    assert mean == pytest.approx(expected, rel=1e-10)
    assert deviation == pytest.approx(0, abs=1e-12)
    same = generator.standard_normal((2, 2000, 4))
    mean, deviation = feature_metrics.kernel_distance(*same, subsets=50, size=200)
    assert abs(mean) < 3 * deviation  # unbiased
    with pytest.raises(ValueError, match="subsets of 1000 images; there are 30 and 30"):
        feature_metrics.kernel_distance(x, y)


def test_precision_and_recall_equal_their_definition(monkeypatch):
    monkeypatch.setattr(feature_metrics, "ROWS", 7)
    generator = np.random.default_rng(0)
    images = generator.standard_normal((40, 3)).astype(np.float32)
    real = generator.standard_normal((50, 3)).astype(np.float32) * 0.7

    def plain(rows, others):
        inside = 0
        for row in rows:
            for i, other in enumerate(others):
                near = sorted(np.linalg.norm(other - o) for j, o in enumerate(others) if j != i)[2]
                if np.linalg.norm(row - other) <= near:
                    inside += 1
                    break
        return inside / len(rows)

    found = feature_metrics.precision_recall(images, real)
    assert found == pytest.approx((plain(images, real), plain(real, images)))
    assert feature_metrics.precision_recall(real, real) == (1, 1)
    assert feature_metrics.precision_recall(images, real + 100) == (0, 0)
    with pytest.raises(ValueError, match="more than 3 images"):
        feature_metrics.precision_recall(images[:3], real)


def test_an_image_on_the_sphere_of_a_ball_is_inside():
    """The third neighbor of 0 is 3, and the third neighbor of 4 is 1: -3 and 7 are inside."""
    real = np.arange(5, dtype=np.float32)[:, None]
    images = np.array([[-3], [7], [-4], [8]], np.float32)
    assert feature_metrics.precision_recall(images, real)[0] == 0.5


def test_numbers_change_only_with_their_version():
    """If this fails after a change that is right, raise the version beside the code."""
    rows = np.random.default_rng(1).normal(size=(1200, 16))
    real = np.random.default_rng(2).normal(size=(1100, 16)) * 1.1
    one, other = Moments.of(rows), Moments.of(real)
    found = {"FID": [frechet_distance(one.mean, one.covariance, other.mean, other.covariance)]}
    for name, metric in feature_metrics.METRICS.items():
        found[name] = metric.score(*([rows] if metric.of_logits else [rows, real]), 0)
    for name, numbers in found.items():
        row = (metrics.versions()[name], *numbers)
        assert name in PINNED, f"add {name!r}: {row} to PINNED in tests/table_cases.py"
        version, *pinned = PINNED[name]
        assert metrics.versions()[name] == version
        assert list(numbers) == pytest.approx(pinned, rel=1e-5), name
    pixels = make_extractor("pixels")(np.array([[[[0]], [[255]]]], np.uint8))["features"]
    assert pixels.tolist() == [[-1, 1]]


def reference_files(folder):
    mean, spread = np.arange(4.0), covariance(0, 4)
    images = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), np.uint8)
    np.savez(folder / "pytorch_fid.npz", mu=mean, sigma=spread)
    np.savez(folder / "adm.npz", mu=mean, sigma=spread, mu_s=mean, sigma_s=spread, arr_0=images)
    np.save(folder / "mean.npy", mean)
    np.save(folder / "cov.npy", spread)
    return mean, spread, images


def test_references_of_all_file_formats_are_read(tmp_path):
    mean, spread, images = reference_files(tmp_path)
    pair = f"{tmp_path / 'mean.npy'},{tmp_path / 'cov.npy'}"
    for text in (str(tmp_path / "pytorch_fid.npz"), pair):
        found = references.load(text, "pool")
        assert found.statistics.keys() == {"pool"}
        assert found.images is None
        assert_array_equal(found.statistics["pool"][0], mean)
        assert_array_equal(found.statistics["pool"][1], spread)
    found = references.load(str(tmp_path / "adm.npz"), "pool")
    assert found.statistics.keys() == {"pool", "spatial"}
    assert_array_equal(found.images, images)
    Reference(found.statistics, images, {"data": {"name": "x"}}).save(str(tmp_path / "ours.npz"))
    again = references.load(str(tmp_path / "ours.npz"), "pool")
    assert again.about == {"data": {"name": "x"}}
    assert_array_equal(again.statistics["spatial"][1], spread)
    with pytest.raises(ValueError, match="already exists"):
        again.save(str(tmp_path / "ours.npz"))
    again.save(f"{tmp_path / 'm.npy'},{tmp_path / 'c.npy'}")
    assert_array_equal(np.load(tmp_path / "c.npy"), spread)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"a": np.zeros(3)}, "no mu and sigma; it has: a"),
        ({"mu": np.zeros(3), "sigma": np.eye(2)}, r"mean of shape \(3,\) and a covariance"),
        ({"mu": np.zeros(3), "sigma": np.eye(3) * np.nan}, "not all finite"),
        ({"mu": np.array([{}]), "sigma": np.eye(1)}, "damaged, or not a NumPy file"),
        ({"mu": np.zeros(1), "sigma": np.eye(1), "arr_0": np.zeros(3)}, "arr_0 of type float64"),
        ({"mu": np.zeros(2), "sigma": np.triu(np.ones((2, 2)))}, "not symmetric"),
        ({"mu": np.array(["a"]), "sigma": np.eye(1)}, "statistics of types <U1"),
        ({"mu": np.zeros(1), "sigma": np.eye(1), "about": np.array("[1]")}, "not a JSON object"),
    ],
)
def test_a_damaged_reference_is_rejected_by_name(tmp_path, arrays, message):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(ValueError, match=message) as caught:
        references.load(str(tmp_path / "a.npz"), "pool")
    assert "a.npz" in str(caught.value)


def test_a_missing_or_unknown_reference_file_is_rejected(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"The reference .*none.npz does not exist"):
        references.load(str(tmp_path / "none.npz"), "pool")
    (tmp_path / "a.npz").write_text("no zip")
    with pytest.raises(ValueError, match="damaged"):
        references.load(str(tmp_path / "a.npz"), "pool")
    (tmp_path / "a.pkl").write_text("")
    with pytest.raises(ValueError, match=r"neither an \.npz"):
        references.load(str(tmp_path / "a.pkl"), "pool")


def test_references_of_another_crop_or_size_are_rejected():
    statistics = {"pool": (np.zeros(2), np.eye(2))}
    of = {"shape": [64, 64, 3], "origin": {"crop": "center-crop"}}
    reference = Reference(statistics, None, {"data": of, "features": "a", "resize": "tensorflow"})
    reference_checks.check_same_data(reference, of, "the images")
    reference_checks.check_same_data(reference, {}, "the images")  # nothing is known
    for other in ({"origin": {"crop": "stretch"}}, {"shape": [32, 32, 3]}):
        with pytest.raises(ValueError, match="--allow_mismatch"):
            reference_checks.check_same_data(reference, other, "the images")
    with pytest.raises(ValueError, match="resize: tensorflow; here it is: clean"):
        reference_checks.check_same_features(reference, {"features": "a", "resize": "clean"})


def test_a_distance_below_zero_by_rounding_is_zero():
    """Equal statistics, with rounding of either sign."""
    found = []
    for seed in range(20):
        rows = np.random.default_rng(seed).standard_normal((50, 20)) * 100
        moments = Moments.of(rows)
        equal = moments.mean, moments.covariance
        found.append(frechet_distance(*equal, *equal))
    assert min(found) == 0
    assert max(found) < 1e-8


def images_of(first, count):
    return np.random.default_rng(0).integers(0, 256, (100, 4, 4, 1), np.uint8)[
        first : first + count
    ]


def test_an_interrupted_computation_of_features_resumes(tmp_path, monkeypatch):
    monkeypatch.setattr(feature_shards, "SHARD", 30)
    monkeypatch.setattr(feature_shards, "SAVE_EVERY", 1)
    extract = make_extractor("pixels")
    reads = []

    def stopping(first, count):
        if first == 60 and 60 not in reads:
            reads.append(first)
            raise KeyboardInterrupt
        reads.append(first)
        return images_of(first, count)

    for function in (feature_shards.gather, feature_shards.accumulate):
        reads.clear()
        folder = tmp_path / function.__name__
        with pytest.raises(KeyboardInterrupt):
            function(folder, 100, stopping, extract)
        found = function(folder, 100, stopping, extract)
        assert reads == [0, 30, 60, 60, 90]
        pixels = images_of(0, 100).reshape(100, 16) / 127.5 - 1
        if function is feature_shards.gather:
            assert_allclose(found["features"], pixels, atol=1e-6)
        else:
            assert_allclose(found["features"][0], pixels.mean(0), atol=1e-7)
            assert_allclose(found["features"][1], np.cov(pixels.T), atol=1e-6)
    path = tmp_path / "gather" / "00000030.npz"
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(ValueError, match=r"00000030\.npz is damaged"):
        feature_shards.gather(tmp_path / "gather", 100, images_of, extract)


def test_measure_returns_every_metric_that_the_features_allow(features):
    extract = make_extractor("pixels")
    real = features[::-1] + np.float32(0.01)
    mean, spread = real.mean(0, dtype=np.float64), np.cov(real.T.astype(np.float64))
    reference = Reference({"features": (mean, spread)})
    found = metrics.measure(
        {"features": features}, extract, reference, {"features": real}, bootstrap=3
    )
    possible = [metric for metric in feature_metrics.METRICS.values() if not metric.of_logits]
    names = {name for metric in possible if metric.fewest <= 1000 for name in metric.names}
    assert {"KID", "KID_std", "precision", "recall"} <= names
    assert found.keys() == {"FD", "FD_bootstrap_std"} | names
    assert found["FD"] == pytest.approx(20 * 1e-4, rel=1e-2)
    assert found["precision"] > 0.99
    json.dumps(found)
    alone = metrics.measure({"features": features[:50]}, extract, reference, None)
    assert alone.keys() == {"FD"}


def noted(images, real, *, logits=False, spatial=False):
    """The notes for these numbers of images and real images, by their first words."""
    rows = np.arange(6000.0).reshape(2000, 3)
    features = {"pool": rows[:images]}
    features |= {"logits": rows[:images]} if logits else {}
    features |= {"spatial": rows[:images]} if spatial else {}
    extract = Extractor(lambda images: features, {}, is_fid=True, main="pool")
    others = None if real is None else {"pool": rows[:real]}
    reference = Reference({"pool": (np.zeros(3), np.eye(3))})
    return metrics.notes(features, extract, reference, others)


def test_metrics_that_are_missing_or_not_meaningful_are_noted():
    assert noted(2000, 2000) == []
    starts = {line.partition(":")[0].partition(",")[0] for line in noted(16, 16, logits=True)}
    assert starts == {
        "16 images for 3 features",
        "IS not meaningful below 5",
        "KID missing",
        "precision",
    }
    few = "\n".join(noted(3, 3, logits=True))
    assert "covariance is singular" in few
    assert "IS missing: at least 10" in few
    assert "precision, recall missing: at least 4" in few
    (real_are_few,) = noted(2000, 12)[:1]
    assert real_are_few.startswith("KID missing: at least 1,000 are needed, given 2,000 images and")
    assert "12 real images" in real_are_few
    equal = {"features": np.ones((2000, 3))}
    reference = Reference({"features": (np.zeros(3), np.eye(3))})
    found = metrics.notes(equal, make_extractor("pixels"), reference, equal)
    assert found == ["The features of all 2,000 images are equal"]
    (without,) = noted(2000, None)
    assert without.startswith("KID, precision, recall missing: the reference has no images")
    assert noted(2000, 2000, spatial=True) == [
        "sFID is missing: the reference has no mu_s and sigma_s"
    ]


def test_labels_follow_the_choice():
    config = tiny_config()
    balanced = choose_labels("all", 1000, config, 0)
    assert set(np.bincount(balanced)) == {100}
    uniform = choose_labels("random", 1000, config, 0)
    assert 60 < np.bincount(uniform).min() < np.bincount(uniform).max() < 140
    assert_array_equal(uniform, choose_labels("random", 1000, config, 0))
    assert set(choose_labels("none", 5, config, 0)) == {10}
    assert np.bincount(choose_labels("data", 1797, config, 0)).min() > 140
    names = [f"class {i}" for i in range(10)]
    listed = choose_labels("3, class 7", 5, config, 0, names)
    assert listed.tolist() == [3, 7, 3, 7, 3]
    with pytest.raises(ValueError, match=r"Unknown label 'uniform'; known: 0 to 9"):
        choose_labels("uniform", 5, config, 0)
    numbered = [str(number) for number in range(10, 20)]
    assert choose_labels("12,#2", 2, config, 0, numbered).tolist() == [2, 2]
    with pytest.raises(ValueError, match="#2 is an index"):
        choose_labels("2", 2, config, 0, numbered)
    with pytest.raises(ValueError, match="#data for the word, #9 for the class"):
        choose_labels("data", 2, config, 0, [*numbered[:9], "data"])
    unconditional = tiny_config(model__num_classes=0)
    assert set(choose_labels("random", 5, unconditional, 0)) == {0}
    with pytest.raises(ValueError, match="labels=all was given, but the model has no classes"):
        choose_labels("all", 5, unconditional, 0)


def test_a_sweep_writes_a_table_and_a_plot(tmp_path):
    settings = ("checkpoint", "eta", "seed")
    rows = [
        {"checkpoint": step, "eta": eta, "seed": seed, "FD": 10 / step + eta + seed / 8}
        for step in (1, 2)
        for eta in (0.0, 1.0)
        for seed in (0, 1)
    ]
    for path in sweep_table.write(tmp_path, rows, settings, "FD"):
        assert path.stat().st_size > 50
    text = (tmp_path / "table.md").read_text()
    assert "| 2 | 1 | 1 | 6.125 |" in text
    assert "checkpoint 1, eta 0: FD of 2 seeds: least 10.0000, mean 10.0625" in text
    assert (tmp_path / "table.csv").read_text().startswith("checkpoint,eta,seed,FD\n1,0.0,0,10.0")
