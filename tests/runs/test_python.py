"""The Python face: the same results as the scripts, by the same names."""

import io
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from numpy.testing import assert_array_equal
from PIL import Image
from tiny import tiny_transformer_config

import diffusion_jax
from diffusion_jax.config import named_configs
from diffusion_jax.evaluation import references
from diffusion_jax.evaluation.features import make_extractor
from diffusion_jax.generation.outputs import OutputOptions
from diffusion_jax.pictures.gallery import Gallery
from diffusion_jax.runs import datasets
from diffusion_jax.runs import run as runs
from diffusion_jax.runs.reference import make_reference
from diffusion_jax.runs.sample_folder import sample_into
from diffusion_jax.workdir.run_files import load_config, pretrained_names

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def run(tmp_path_factory, ordinary_promotion):
    """A run of the small transformer, trained from Python."""
    folder = tmp_path_factory.mktemp("python") / "run"
    changes = {"optimizer__learning_rate": 0.05, "optimizer__warmup_steps": 0}
    return diffusion_jax.train(tiny_transformer_config(steps=2, **changes), folder)


def test_training_returns_the_run_and_resumes(run, tmp_path):
    assert run.step == 2
    assert run.class_names == [str(i) for i in range(10)]
    assert repr(run).endswith("dit, 8x8, 10 classes, step 2)")
    first = diffusion_jax.train(tiny_transformer_config(), tmp_path / "run", {"steps": 1})
    again = diffusion_jax.train(load_config(first.workdir), first.workdir, {"steps": 2})
    assert (first.step, again.step) == (1, 2)


def test_the_usual_names_of_scales_are_converted(run):
    assert run.experiment_with({"cfg_scale": 2.5}).config.sampling.guidance == 1.5
    assert run.experiment_with({"ddim_scale": 0.25}).config.sampling.ddim.eta == 0.5


def test_compiled_programs_are_kept_on_disk(tmp_path):
    """In a process of its own, which has compiled a program before the run is loaded."""
    code = (
        "import jax; jax.jit(lambda x: x + 1)(0); import diffusion_jax; "
        "diffusion_jax.load('digits').sample('7', count=2, steps=2)"
    )
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, cwd=tmp_path)
    assert len(list((tmp_path / "diffusion_jax" / "compiled").iterdir())) > 0


def test_the_progress_bar_can_be_left_out(run, monkeypatch):
    shown = []
    monkeypatch.setattr(runs, "progress_bar", lambda batches: shown.append(1) or batches)
    run.sample([1], steps=2)
    assert shown == [1]
    run.sample([1], steps=2, progress=False)
    assert shown == [1]


def test_images_are_those_of_the_script(run, tmp_path):
    experiment = run.experiment_with({"steps": 3, "guidance": 0.5, "solver": "heun"})
    written = sample_into(
        run, experiment, tmp_path / "out", OutputOptions(["npz"]), labels="7,3", count=4, seed=5
    )
    (path,) = written
    with np.load(path) as expected:
        sampled = run.sample("7,3", count=4, seed=5, steps=3, guidance=0.5, solver="heun")
        assert_array_equal(sampled, expected["arr_0"])
        as_list = run.sample(["7", 7, "3", 3], seed=5, steps=3, guidance=0.5, solver="heun")
        assert_array_equal(as_list, expected["arr_0"])
    assert sampled.dtype == np.uint8
    assert isinstance(sampled, Gallery)


def test_settings_change_the_samples_and_numbers_do_not_recompile(run):
    settings = {"solver": "ddim", "steps": 3, "seed": 1}
    plain = run.sample(["1"] * 4, guidance=0.5, eta=0.5, **settings)
    lowered = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, seconds, **_: lowered.append(event) if "jaxpr_to_mlir" in event else None
    )
    for changed in ({"guidance": 2.0}, {"eta": 1.0}, {"seed": 2}):
        other = run.sample(["1"] * 4, **({"guidance": 0.5, "eta": 0.5} | settings | changed))
        assert np.any(other != plain), changed
    assert not lowered
    run.sample(["1"] * 4, **(settings | {"steps": 6}))
    assert lowered  # for another number of steps


def test_denoising_ends_with_the_image(run):
    images = run.sample([2, 3], steps=4, seed=3)
    states = run.denoising([2, 3], steps=4, seed=3, frames=2)
    assert states.shape == (2, 2, 8, 8, 1)
    assert_array_equal(states[:, -1], images)
    predicted = run.denoising([2, 3], steps=4, seed=3, frames=9, of="x0")
    assert predicted.shape == (2, 4, 8, 8, 1)


def test_edits_of_a_run_change_images(run, tmp_path):
    images = run.sample([2, 3], steps=2)
    mask = np.zeros((8, 8), bool)
    mask[:, :3] = True
    painted = run.edit.inpaint(images, mask, ["2", "3"], count=2, steps=2, seed=1)
    assert painted.shape == (4, 8, 8, 1)
    assert_array_equal(painted[:, :, 3:], images.repeat(2, axis=0)[:, :, 3:])
    assert np.any(painted[0] != painted[1])
    diffusion_jax.images.save_png(tmp_path / "a.png", np.asarray(images[0]))
    of_file = run.edit.image_to_image([tmp_path / "a.png"], "2", strength=0.5, steps=2)
    of_path = run.edit.image_to_image(str(tmp_path / "a.png"), "2", strength=0.5, steps=2)
    assert_array_equal(of_path, of_file)
    assert_array_equal(of_file, run.edit.image_to_image(images[:1], 2, strength=0.5, steps=2))
    assert_array_equal(of_file, run.edit.image_to_image(images[0], 2, strength=0.5, steps=2))
    assert run.edit.vary("1,2", count=3, steps=2).shape == (8, 8, 8, 1)
    assert run.edit.interpolate(labels="1,2", count=5, steps=2).shape == (5, 8, 8, 1)
    assert run.edit.interpolate(images[:1], images[1:], "1,2", count=5, steps=4).shape[0] == 5
    noise = run.edit.invert(images, "1,2", steps=4)
    assert run.edit.reconstruct(noise, "1,2", steps=4).shape == (2, 8, 8, 1)


def test_integers_are_indices_and_texts_are_names(run, monkeypatch):
    monkeypatch.setattr(run, "class_names", [str(number) for number in range(10, 20)])
    assert run.labels(4).tolist() == run.labels([4]).tolist() == run.labels("14").tolist() == [4]
    assert run.labels(np.int64(4), 2).tolist() == run.labels("#4", 2).tolist() == [4, 4]
    assert run.labels(np.array([4, 10])).tolist() == [4, 10]
    assert run.labels(["14", 4, "none"]).tolist() == [4, 4, 10]
    for labels in ("4", ["4"], [True], True, 10, -1):
        with pytest.raises(ValueError, match="label"):
            run.labels(labels)
    with pytest.raises(ValueError, match="must be a list of names or indices"):
        run.labels(np.zeros((2, 2), int))
    monkeypatch.setattr(run, "class_names", ["none", *map(str, range(1, 10))])
    images = np.zeros((1, 8, 8, 1), np.uint8)
    with pytest.raises(ValueError, match="#none for the word, #0 for the class"):
        run.edit.image_to_image(images, steps=2)
    assert run.edit.labels("#none", 2).tolist() == [10, 10]
    assert run.edit.labels("=none", 2).tolist() == [0, 0]


def test_evaluation_is_that_of_the_script(run, tmp_path, monkeypatch):
    reference = tmp_path / "digits.npz"
    make_reference(
        datasets.from_config(run.config),
        make_extractor("pixels"),
        str(reference),
        count=None,
        keep_images=0,
    )
    assert references.load(str(reference), "features").about["features"] == "pixels"
    settings = {"features": "pixels", "count": 80, "steps": 2, "batch_size": 16}
    found = run.evaluate(reference, **settings)
    assert found["FD"] > 1
    (result,) = (run.workdir / "evaluations").glob("result-*.json")
    before = result.stat().st_mtime_ns
    assert run.evaluate(reference, **settings) == found
    assert result.stat().st_mtime_ns == before
    raw = diffusion_jax.load(run.workdir, ema=False).evaluate(reference, **settings)
    assert raw != found
    monkeypatch.chdir(tmp_path)
    packaged = diffusion_jax.load("digits").evaluate(reference, **settings)
    assert packaged["FD"] < found["FD"]
    assert len(list(tmp_path.glob("digits/evaluations/result-*.json"))) == 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda run: run.sample(["10"]), "Unknown label '10'"),
        (lambda run: run.sample([]), "No labels were given"),
        (
            lambda run: run.sample("7", count=0),
            "count=0 must be a whole number, from 1 to",
        ),
        (lambda run: run.edit.interpolate(np.zeros((1, 8, 8, 1), np.uint8)), "give a second one"),
        (
            lambda run: run.edit.inpaint(np.zeros((1, 8, 8, 1), np.uint8), np.ones((4, 8))),
            r"Unsupported mask of shape \(4, 8\); give \(8, 8\)",
        ),
        (
            lambda run: diffusion_jax.load("digits", checkpoint=9),
            r"No checkpoint of step 9 in digits; there: 2000",
        ),
        (lambda run: diffusion_jax.load("digits", ema=False), "use ema=True"),
        (
            lambda run: run.sample([1], seed=-1),
            r"seed=-1 must be a whole number in \[0, 2\^32\)",
        ),
        (lambda run: run.sample([1], steps="many"), "steps='many' must be of type int"),
        (
            lambda run: diffusion_jax.config("digits", {"model.widht": 3}),
            r"There is no field model\.widht; did you mean model\.width\?",
        ),
        (
            lambda run: diffusion_jax.config("digits", {"config.steps": "many"}),
            "steps='many' must be of type int",
        ),
        (lambda run: run.evaluate("nothing.npz"), "The reference nothing.npz does not exist"),
        (lambda run: run.sample([11]), "Unknown label 11; known: 0 to 9, and 10: none"),
        (
            lambda run: run.sample([1], batch_size=0),
            "batch_size=0 must be a whole number",
        ),
        (lambda run: run.sample(["1,2"]), "'1,2' names 2 classes"),
        (lambda run: run.sample([1, 2], count=3), "count=3 was given with 2 labels"),
        (lambda run: run.sample([1], solver="dim"), "Unknown solver 'dim'"),
        (lambda run: run.sample([1], churn=1), "Unknown setting churn; did you mean s_churn"),
        (lambda run: run.sample([1], s_churn=1), "s_churn=1 was given, which the solver ddim"),
        (lambda run: run.sample([1], sampler="heun"), "Unknown setting sampler; did you mean so"),
        (lambda run: run.sample([1], cfg_scale=2, guidance=1), "--guidance and --cfg_scale were"),
        (lambda run: run.sample([1], cfg_scale=-1), "cfg_scale=-1 must be a number of at least 0"),
        (lambda run: run.sample("random", count=10**11), "count=100000000000 must be"),
        (lambda run: run.sample(np.ones((2, 2), int)), "must be a list of names or indices"),
        (lambda run: run.denoising([1], frames=0), "frames=0 must be a whole number"),
        (lambda run: run.edit.vary([1], count=0), "count=0 must be a whole number"),
        (lambda run: run.edit.interpolate(count=0), "count=0 must be a whole number"),
        (
            lambda run: run.edit.image_to_image(np.zeros((1, 8, 8, 1), np.uint8), count=0),
            "count=0 must be a whole number",
        ),
        (
            lambda run: run.edit.inpaint(
                np.zeros((1, 8, 8, 1), np.uint8), np.ones((8, 8), bool), resample=0
            ),
            "resample=0 must be a whole number",
        ),
        (
            lambda run: run.edit.inpaint(
                np.zeros((1, 8, 8, 1), np.uint8), np.ones((8, 8), bool), resample=2, jump=0
            ),
            "jump=0 must be a whole number",
        ),
        (
            lambda run: diffusion_jax.config("digits", {"lr": 1}),
            "mean optimizer.learning_rate?",
        ),
        (lambda run: diffusion_jax.load(__file__), "it is a file, and a folder was expected"),
        (
            lambda run: diffusion_jax.load(run.workdir / "checkpoints" / "2"),
            r"it is a part of the run .*/run; give .*/run with checkpoint=2",
        ),
        (
            lambda run: diffusion_jax.load(run.workdir / "samples"),
            r"it is a part of the run .*/run; give .*/run$",
        ),
        (lambda run: run.denoising([1], of="y"), "of='y' must be 'x'"),
        (
            lambda run: run.edit.enlarge(np.zeros((1, 4, 4, 1), np.uint8)),
            "is not a super-resolution model",
        ),
        (
            lambda run: run.edit.image_to_image(np.zeros((1, 9, 9, 1), np.uint8)),
            r"give uint8 images of shape \(count, 8, 8, 1\)",
        ),
        (
            lambda run: run.edit.inpaint(np.zeros((1, 8, 8, 1), np.uint8), np.zeros((8, 8))),
            "Mask 0 has no pixel to replace",
        ),
        (lambda run: run.evaluate("nothing.npz", features="pixels"), "nothing.npz"),
        (lambda run: run.sample([1], clip="False"), "clip='False' must be of type bool"),
        (
            lambda run: diffusion_jax.config("digits", {"data.flip": "no"}),
            "data.flip='no' must be",
        ),
    ],
)
def test_mistakes_are_named(run, call, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        call(run)


# Texts are true for Python, "False" too. In a process without the type checks of the tests.
BOOLS = """
import sys
import diffusion_jax
from diffusion_jax.data import FolderOptions, make_source
from diffusion_jax.evaluation.evaluator import Evaluator
from diffusion_jax.evaluation.features import make_extractor
from diffusion_jax.generation.outputs import OutputOptions
from diffusion_jax.runs.sweep import Protocol

for call in (
    lambda: diffusion_jax.load(sys.argv[1], ema="raw"),
    lambda: diffusion_jax.load(sys.argv[1], ema=1),
    lambda: diffusion_jax.load("digits", ema="raw"),
    lambda: OutputOptions(captions="no"),
    lambda: Protocol(truncate="round"),
    lambda: Protocol(ema="raw"),
    lambda: make_source("digits", split="all", load_into_memory="no"),
    lambda: FolderOptions(convert="False"),
    lambda: FolderOptions(skip_broken=1),
    lambda: Evaluator.from_file(".", make_extractor("pixels"), "a.npz", allow_mismatch="no"),
):
    try:
        print(call())
    except ValueError as error:
        print(error)
"""


def test_texts_and_numbers_are_no_bools(run):
    command = [sys.executable, "-c", BOOLS, str(run.workdir)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert [line.partition(" must be True")[0] for line in done.stdout.splitlines()] == [
        "ema='raw'",
        "ema=1",
        "ema='raw'",
        "captions='no'",
        "truncate='round'",
        "ema='raw'",
        "load_into_memory='no'",
        "convert='False'",
        "skip_broken=1",
        "allow_mismatch='no'",
    ], done.stderr


def test_galleries_are_arrays_that_a_notebook_displays():
    pictures = Gallery.of(np.arange(3 * 8 * 8, dtype=np.uint8).reshape(3, 8, 8, 1))
    with Image.open(io.BytesIO(pictures._repr_png_())) as shown:
        assert shown.size == (2 * 33 + 1, 2 * 33 + 1)
        assert np.asarray(shown)[1, 1 + 4] == pictures[0, 0, 1, 0]
    assert pictures.grid(3, upscale=1).shape == (10, 28, 1)
    assert pictures.mean(axis=(1, 2, 3))._repr_png_() is None
    with pytest.raises(ValueError, match="A grid takes images"):
        pictures[0].grid()


def test_configs_by_name(tmp_path):
    config = diffusion_jax.config("digits:dit", {"model.depth": 3})
    assert (config.model.name, config.model.depth) == ("dit", 3)
    own = tmp_path / "mine.py"
    own.write_text(
        "from configs import digits\n"
        "def get_config():\n    config = digits.get_config()\n    config.steps = 7\n"
        "    return config\n"
    )
    assert diffusion_jax.config(own).steps == 7
    assert named_configs.path_of("configs/digits.py").samefile(ROOT / "configs" / "digits.py")
    with pytest.raises(FileNotFoundError, match=r"neither a file nor one of adm128, .*digits"):
        diffusion_jax.config("digit")
    with pytest.raises(ValueError, match="mnist:x: the config mnist takes no argument"):
        diffusion_jax.config("mnist:x")


def test_a_model_is_packaged():
    run = diffusion_jax.load("digits")
    assert pretrained_names() == ["digits", "mnist"]
    larger = diffusion_jax.load("mnist")
    assert (larger.config.data.resolution, larger.step) == (28, 3000)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(larger.params))
    assert run.class_names == [str(i) for i in range(10)]
    images = run.sample("all", steps=10)
    real = datasets.from_config(run.config)
    labels = real.source.labels
    means = np.stack(
        [real.read(np.flatnonzero(labels == label)).mean(axis=0) for label in range(10)]
    )
    # Each is nearest to the mean of its own class.
    apart = ((images[:, None].astype(float) - means) ** 2).sum(axis=(2, 3, 4))
    assert np.mean(apart.argmin(axis=1) == np.arange(10)) >= 0.8
    with pytest.raises(
        FileNotFoundError, match="the models that come with the package are digits, mnist"
    ):
        diffusion_jax.load("digit")
