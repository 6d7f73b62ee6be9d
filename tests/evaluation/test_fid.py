"""scripts.fid: references, runs and files, interruptions, sweeps and mistakes."""

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from forks import run_each
from PIL import Image
from tiny import tiny_transformer_config, train

from diffusion_jax.config.experiment import Experiment
from diffusion_jax.evaluation import feature_shards
from diffusion_jax.evaluation.evaluator import Evaluator
from diffusion_jax.evaluation.feature_metrics import METRICS
from diffusion_jax.evaluation.features import make_extractor
from diffusion_jax.evaluation.image_sets import ImageSet, from_files
from diffusion_jax.evaluation.moments import frechet_distance
from diffusion_jax.evaluation.references import Reference
from diffusion_jax.files import lock
from diffusion_jax.generation.sampler import Sampler
from diffusion_jax.images import to_uint8
from diffusion_jax.runs import datasets, sweep
from diffusion_jax.runs.evaluate import trained_on
from diffusion_jax.runs.reference import make_reference
from diffusion_jax.sampling import SOLVERS, memoryless
from diffusion_jax.workdir.parameters import load_params
from diffusion_jax.workdir.run_files import load_config

ROOT = Path(__file__).parents[2]
DIGITS = "--config=configs/digits.py"
pytestmark = pytest.mark.usefixtures("ordinary_promotion")


def fid(*arguments):
    command = [sys.executable, "-m", "scripts.fid", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run")
    train(tiny_transformer_config(sampling__steps=2), workdir)
    return workdir


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    path = tmp_path_factory.mktemp("reference") / "digits.npz"
    done = fid("reference", "--data=digits", "--split=all", "--features=pixels", f"--out={path}")
    assert done.returncode == 0, done.stderr
    return path


def evaluate(run, reference, out, *more):
    return fid(
        "evaluate",
        f"--workdir={run}",
        f"--reference={reference}",
        f"--out={out}",
        "--features=pixels",
        *more,
    )


def result(folder):
    (path,) = folder.glob("result-*.json")
    return json.loads(path.read_text())


def test_a_reference_records_its_dataset_and_features(reference):
    with np.load(reference) as arrays:
        about = json.loads(str(arrays["about"]))
        images = arrays["arr_0"]
        digits = datasets.open_source(tiny_transformer_config()).read(np.arange(1797))["image"]
        pixels = digits.reshape(1797, 64) / 127.5 - 1
        np.testing.assert_allclose(arrays["mu"], pixels.mean(0), atol=1e-6)
        np.testing.assert_allclose(arrays["sigma"], np.cov(pixels.T), atol=1e-6)
    assert about["features"] == "pixels"
    assert about["count"] == 1797
    assert len(about["data"]["fingerprint"]) == 64
    np.testing.assert_array_equal(images, digits)


def test_the_reference_of_a_run_equals_the_reference_of_its_dataset(run, reference, tmp_path):
    done = fid("reference", f"--workdir={run}", "--features=pixels", f"--out={tmp_path / 'a.npz'}")
    assert done.returncode == 0, done.stderr
    with np.load(reference) as one, np.load(tmp_path / "a.npz") as other:
        assert one.keys() == other.keys()
        assert all(np.array_equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("text", ['{"name": "dig', '{"shape": "8x8"}', "[]", "[" * 100_000])
def test_a_damaged_dataset_json_is_named(tmp_path, text):
    (tmp_path / "dataset.json").write_text(text)
    with pytest.raises(ValueError, match=r"dataset\.json .*; delete it to evaluate without"):
        trained_on(tmp_path)


def test_evaluate_measures_the_samples_of_a_run(run, reference, tmp_path):
    done = evaluate(run, reference, tmp_path, "--count=40", "--batch_size=16")
    assert done.returncode == 0, done.stderr
    found = result(tmp_path)
    # The same images from the sampler itself.
    config = load_config(run)
    step, params = load_params(run, Experiment.from_config(config))
    labels = np.random.default_rng([0, 2]).integers(10, size=40, dtype=np.int32)
    generator = Sampler.from_experiment(Experiment.from_config(config), batch_size=8)
    sampled, _ = generator(params, labels, seed=0)
    pixels = to_uint8(sampled).reshape(40, 64) / 127.5 - 1
    with np.load(reference) as arrays:
        expected = frechet_distance(pixels.mean(0), np.cov(pixels.T), arrays["mu"], arrays["sigma"])
    assert found["metrics"]["FD"] == pytest.approx(expected, rel=1e-4)
    assert found["images"]["checkpoint"] == step == 6
    assert found["images"]["labels"] == "random"
    assert found["images"]["quantizer"] == "round"
    assert found["images"]["sampling"]["steps"] == 2
    assert found["note"].startswith("40 images for 64 features")
    assert len(found["reference"]["sha256"]) == 64
    assert found["reference"]["data"]["fingerprint"] == found["training_data"]["fingerprint"]
    assert f"FD  {found['metrics']['FD']:.6g}" in done.stdout
    # A saved result is not computed again, and the shards are removed.
    assert len(list(tmp_path.glob("features-*"))) == 1  # of the reference's images
    again = evaluate(run, reference, tmp_path, "--count=40", "--batch_size=16")
    assert again.returncode == 0
    assert "shard" not in again.stderr
    assert again.stdout == done.stdout


def test_a_sweep_has_a_row_for_each_combination(run, reference, tmp_path):
    more = ("--count=20", "--checkpoint=3,6", "--eta=0,1", "--batch_size=20")
    more += ("--spacing=sections", "--option=sections=2,1")
    done = evaluate(run, reference, tmp_path, *more)
    assert done.returncode == 0, done.stderr
    with (tmp_path / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["checkpoint"], row["eta"]) for row in rows] == [
        ("3", "0.0"),
        ("3", "1.0"),
        ("6", "0.0"),
        ("6", "1.0"),
    ]
    assert {row["steps"] for row in rows} == {"3"}  # of the spacing, not of the config
    assert {row["options"] for row in rows} == {"sections=2,1"}
    assert len({row["FD"] for row in rows}) == 4
    assert (tmp_path / "FD.png").stat().st_size > 1000
    assert "| checkpoint |" in (tmp_path / "table.md").read_text()


def test_a_larger_sweep_reuses_the_results_of_a_smaller_one(run, reference, tmp_path):
    more = ("--count=20", "--batch_size=20", "--solver=ddim,heun")
    plot = f"--plot={tmp_path / 'fd.png'}"
    done = evaluate(run, reference, tmp_path, *more, "--steps=2")
    assert done.returncode == 0, done.stderr
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("result-*.json")}
    assert len(before) == 2
    done = evaluate(run, reference, tmp_path, *more, "--steps=2,3,2", plot)
    assert done.returncode == 0, done.stderr
    assert str(tmp_path / "fd.png") in done.stdout
    with Image.open(tmp_path / "fd.png") as picture:
        assert picture.size == (700, 400)
    with (tmp_path / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["solver"], row["steps"], row["evaluations"]) for row in rows] == [
        ("ddim", "2", "2"),
        ("ddim", "3", "3"),
        ("heun", "2", "3"),
        ("heun", "3", "5"),
    ]
    assert {row["options"] for row in rows} == {""}
    # The two existing results are in the table and were not computed again.
    assert len(list(tmp_path.glob("result-*.json"))) == 4
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())


class Recorder(Evaluator):
    """Evaluator that returns the provenance of the images without sampling them."""

    def __call__(self, images):
        return images.about


def test_a_sweep_shows_the_options_that_are_not_the_solvers_defaults(run, monkeypatch, tmp_path):
    def repeating(*, eta: float = 0.0, order: int = 2, churn: float = 0.5):
        """Solver with one evaluation per step, and `order` more except in the last step."""

        def step(denoiser, now, next, coefficients, x, noise):
            denoiser(x, now)
            more = jnp.where(coefficients.last, 0, order)
            return jax.lax.fori_loop(0, more, lambda _, x: denoiser(x, now).x0, x)

        return memoryless(step)

    monkeypatch.setitem(SOLVERS, "repeating", repeating)
    workdir = tmp_path / "run"
    shutil.copytree(run, workdir)
    config = json.loads((run / "config.json").read_text())
    config["sampling"]["repeating"] = {"eta": 0.0, "order": 2, "churn": 0.5}
    (workdir / "config.json").write_text(json.dumps(config))
    evaluator = Recorder(tmp_path, make_extractor("pixels"), Reference({}), "none")
    tables = []
    for options in ({}, {"order": "3"}, {"order": 2, "churn": "0.25"}, {"order": 1, "churn": 1}):
        points = sweep.points(
            [workdir], [], {"solver": ["repeating"], "steps": [4], "eta": [0.5]}, [0]
        )
        protocol = sweep.Protocol(options=options)
        ((settings, about),) = sweep.evaluate(evaluator, points, protocol, batch_size=8)
        assert settings.keys() == set(sweep.SETTINGS)
        assert "evaluations" not in about["sampling"]  # it is no input of a result
        tables.append((settings["eta"], settings["options"], settings["evaluations"]))
    assert tables == [
        (0.5, "", 4 + 3 * 2),
        (0.5, "order=3", 4 + 3 * 3),
        (0.5, "churn=0.25", 4 + 3 * 2),
        (0.5, "churn=1.0;order=1", 4 + 3),
    ]


def test_protocol_original_sets_labels_quantizer_and_solver(run, reference, tmp_path):
    more = ("--protocol=original", "--count=8", "--batch_size=8")
    done = evaluate(run, reference, tmp_path, *more)
    assert done.returncode == 0, done.stderr
    images = result(tmp_path)["images"]
    assert images["labels"] == "none"
    assert images["quantizer"] == "truncate"
    assert images["sampling"]["solver"] == "original"
    assert images["protocol"].startswith("as the original: unconditional")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    pixels = np.random.default_rng(0).integers(0, 256, (12, 16, 16, 3), np.uint8)
    for index, image in enumerate(pixels):
        Image.fromarray(image).save(folder / f"{index:02}.png")
    np.savez(folder.parent / "pictures.npz", arr_0=pixels)
    return folder


def test_evaluate_measures_a_folder_of_images_with_inception(pictures, tmp_path):
    """With random weights. A folder and an npz of the same images are equal."""
    statistics = {"mu": np.zeros(2048), "sigma": np.eye(2048)}
    statistics["about"] = np.array(json.dumps({"features": "InceptionV3 of 2015-12-05"}))
    statistics |= {"mu_s": np.zeros(2023), "sigma_s": np.eye(2023)}
    with np.load(pictures.parent / "pictures.npz") as arrays:
        np.savez(tmp_path / "ref.npz", arr_0=arrays["arr_0"], **statistics)
    done = fid(
        "evaluate",
        f"--images={pictures}",
        f"--reference={tmp_path / 'ref.npz'}",
        "--weights=random",
        "--batch_size=12",
        f"--out={tmp_path / 'out'}",
    )
    assert done.returncode == 0, done.stderr
    found = result(tmp_path / "out")["metrics"]
    possible = [metric for metric in METRICS.values() if metric.fewest <= 12]
    names = {name for metric in possible for name in metric.names}
    assert {"IS", "IS_std", "precision", "recall"} <= names
    assert found.keys() == {"FD", "sFD"} | names
    assert found["precision"] == found["recall"] == 1
    note = result(tmp_path / "out")["note"]
    for words in ("KID missing: at least 1,000", "IS not meaningful", "precision, recall not"):
        assert words in note
    assert f"Note: {note}" in done.stdout
    assert f"{pictures}: 12 of 12 images" in done.stderr
    one, other = (
        from_files(path, None, 3) for path in (pictures, pictures.parent / "pictures.npz")
    )
    np.testing.assert_array_equal(one.read(0, 12), other.read(0, 12))


def test_two_evaluations_at_once_into_one_folder_are_rejected(reference, tmp_path):
    extractor = make_extractor("pixels")
    evaluator = Evaluator.from_file(tmp_path, extractor, str(reference))
    pixels = np.random.default_rng(0).integers(0, 256, (70, 8, 8, 1), np.uint8)
    images = ImageSet(70, (8, 8, 1), lambda first, count: pixels[first : first + count], {}, {})
    with lock.only_one(tmp_path, "evaluated into"):
        with pytest.raises(ValueError, match="is being evaluated into by process"):
            evaluator(images)
        assert not list(tmp_path.glob("features-*"))
    found = evaluator(images)
    with lock.only_one(tmp_path, "evaluated into"):
        assert evaluator(images) == found  # read, not computed


def test_two_processes_cannot_make_one_reference_at_once(tmp_path, monkeypatch):
    def make():
        made = make_reference(data, extractor, str(tmp_path / "r.npz"), count=9, keep_images=0)
        assert made == 9

    def making_again(*arguments, **options):
        with pytest.raises(ValueError, match="is being filled by process"):
            make()
        return accumulate(*arguments, **options)

    data, extractor = (
        datasets.from_name("digits", split="all", data_dir=""),
        make_extractor("pixels"),
    )
    accumulate = feature_shards.accumulate
    monkeypatch.setattr(feature_shards, "accumulate", making_again)
    make()
    assert [path.name for path in tmp_path.iterdir()] == ["r.npz"]


def test_a_transparent_image_is_refused_with_advice_for_an_evaluation(tmp_path):
    Image.new("RGBA", (8, 8), (9, 9, 9, 0)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"a\.png has transparent parts, .* 8-bit RGB PNG first"):
        from_files(tmp_path, None, 3).read(0, 1)


def test_a_folder_of_images_of_several_sizes_is_rejected(pictures, tmp_path):
    odd = tmp_path / "odd"
    shutil.copytree(pictures, odd)
    Image.new("RGB", (9, 16)).save(odd / "a.png")
    with pytest.raises(ValueError, match=r"several sizes: .*11\.png 16x16, .*a\.png 9x16"):
        from_files(odd, None, 3).read(0, 13)


def test_files_that_are_no_images_are_counted_and_named(pictures, tmp_path):
    """HEIC and NPY files, a NAS's thumbnails, and what macOS and Windows leave behind."""
    folder = tmp_path / "half"
    shutil.copytree(pictures, folder)
    for number in range(20):
        (folder / f"{number}.heic").write_bytes(b"heic")
        np.save(folder / f"{number}.npy", np.zeros(3))
    (folder / ".DS_Store").write_bytes(b"")
    for system in ("@eaDir", "__MACOSX", "#recycle"):
        (folder / system / "00.png").mkdir(parents=True)
        shutil.copy(pictures / "00.png", folder / system / "00.png" / "THUMB_M.png")
    images = from_files(folder, 10, 3)
    assert (images.count, images.about["found"]) == (10, 12)
    assert images.about["left_out"] == {
        "hidden": 1,
        "in a system folder": 3,
        ".heic, not an image format": 20,
        ".npy, not an image format": 20,
    }
    arrays = {
        "mu": np.zeros(768),
        "sigma": np.eye(768),
        "about": json.dumps({"features": "pixels"}),
    }
    np.savez(tmp_path / "ref.npz", **arrays)
    logged = []
    evaluator = Evaluator.from_file(
        tmp_path / "out", make_extractor("pixels"), str(tmp_path / "ref.npz"), log=logged.append
    )
    found = evaluator(images)
    assert found["images"]["left_out"] == images.about["left_out"]
    assert "20 .heic, not an image format (such as 0.heic)" in logged[0]
    assert logged[0] in found["note"]


def test_mistakes_are_one_line_of_error(run, reference, pictures, tmp_path):
    out = f"--out={tmp_path / 'out'}"
    pixels = "--features=pixels"
    of_run = ["evaluate", f"--workdir={run}", f"--reference={reference}"]
    files = ["evaluate", f"--images={pictures}", f"--reference={reference}", out, pixels]
    make = ["reference", DIGITS]
    cases = [
        (["evaluate", out], "Give either --workdir"),
        (["reference", "--guidance=3"], "--guidance belongs to `evaluate`; `reference` does not"),
        ([*make, "--split=all"], "--split belongs to `reference --data`; `reference --config`"),
        ([*files, "--eta=1"], "; `evaluate --images` does not take it"),
        (
            ["check", f"--workdir={run}"],
            "--workdir belongs to `reference` and `evaluate`; `check`",
        ),
        (
            ["evaluate", DIGITS, "--config.seed=3"],
            "--config belongs to `reference`; `evaluate` does not take it",
        ),
        (["evaluate", f"--workdir={run}"], "--reference is missing"),
        (
            files,
            "resolution of the reference is (8, 8), and the resolution of the images is (16, 16)",
        ),
        ([*files, "--allow_mismatch"], "256 features, the reference 64"),
        (
            [*of_run, pixels, "--protocol=original", "--guidance=0,1"],
            "`evaluate --protocol` does not take it",
        ),
        ([*of_run, pixels, "--seed=-1"], "--seed=-1"),
        ([*of_run, pixels, "--guidance=inf"], "guidance=inf must be"),
        ([*of_run, pixels, "--bootstrap=1"], "has no deviation"),
        ([*of_run, pixels, "--plot=fd.png"], "--plot and --x are of a sweep; for example: --steps"),
        ([*of_run, pixels, "--steps=2,3", "--x=nfe"], "--x=nfe must be one of checkpoint, evalua"),
        ([*of_run, pixels, "--steps=2,3", "--plot=fd.bmp"], "--plot=fd.bmp must end in one of"),
        ([*files, "--plot=fd.png"], "; `evaluate --images` does not take it"),
        (["check", f"--reference={reference}"], "--images is missing"),
        (["reference", "--data=folder:/tmp", pixels, out + ".npz"], "A folder needs a size"),
        ([*files, "--count=100"], "has 12 images; --count=100"),
        ([*of_run, "--weights=random"], "features: pixels; here it is: InceptionV3"),
        ([*of_run, pixels, "--eta=a"], "--eta=a"),
        ([*of_run, pixels, "--checkpoint=5"], "No checkpoint of step 5"),
        ([*make, pixels, f"--out={reference}"], "already exists"),
        ([*make, "--weights=/nowhere", out + ".npz"], "/nowhere"),
        ([*files[:1], "--images=/nowhere", *files[2:]], "neither a folder nor an .npz file"),
    ]
    outcomes = run_each("fid", [arguments for arguments, _ in cases])
    for (arguments, message), done in zip(cases, outcomes):
        assert done.returncode == 1, arguments
        line = done.stderr.strip().splitlines()[-1]
        assert line.startswith("Error: "), done.stderr
        assert message in line, (message, line)
        assert "Traceback" not in done.stderr
