"""Defaults of a first run: number of classes, and time of the first sample grid."""

import itertools
import os
import signal
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from PIL import Image
from tiny import tiny_transformer_config, train

from configs import folder
from diffusion_jax.config.experiment import Experiment
from diffusion_jax.data import dataset_summary
from diffusion_jax.runs import datasets
from diffusion_jax.runs import train as training
from diffusion_jax.runs.datasets import resolve_num_classes
from diffusion_jax.training import loop
from diffusion_jax.training.loop import TrainingLoop
from diffusion_jax.workdir import environment
from diffusion_jax.workdir.run_files import load_config


def pictures_in(path, *names):
    for index, name in enumerate(names):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = np.full((40, 36, 3), 20 * index, np.uint8)
        Image.fromarray(pixels).save(path / name)
    return f"folder:{path}"


def test_the_small_preset_counts_the_classes(tmp_path):
    config = folder.get_config("small")
    config.data.cache_dir = str(tmp_path / "cache")
    config.data.name = pictures_in(tmp_path / "two", "cats/a.png", "cats/b.png", "dogs/a.png")
    found = resolve_num_classes(config)
    assert (found.model.num_classes, found.sampling.guidance) == (2, 1.0)
    Experiment.from_config(found)
    assert datasets.from_config(config).source.class_names == ["cats", "dogs"]
    config.data.name = pictures_in(tmp_path / "none", "a.png", "b.png")
    found = resolve_num_classes(config)
    assert (found.model.num_classes, found.sampling.guidance) == (0, 0.0)
    Experiment.from_config(found)
    assert config.model.num_classes is None  # the original is left alone
    config.batch_size = 0
    config.data.name = "folder:nowhere"  # which is not opened before that mistake is found
    with pytest.raises(ValueError, match="batch_size=0 must be at least 1"):
        resolve_num_classes(config)


def test_conditional_blocks_get_the_classes_of_the_data(tmp_path):
    config = folder.get_config()
    config.data.cache_dir = str(tmp_path / "cache")
    config.model.num_classes, config.model.blocks = None, "res,clsAtn"
    config.data.name = pictures_in(tmp_path / "two", "cats/a.png", "dogs/a.png")
    found = resolve_num_classes(config)
    assert found.model.num_classes == 2
    Experiment.from_config(found)
    config.data.name = pictures_in(tmp_path / "none", "a.png", "b.png")
    with pytest.raises(ValueError, match="'clsAtn', which needs classes"):
        Experiment.from_config(resolve_num_classes(config))


@pytest.mark.usefixtures("ordinary_promotion")
def test_a_run_resumes_with_its_counted_classes(tmp_path):
    config = tiny_transformer_config(model__num_classes=None, steps=1)
    assert train(config, tmp_path).step == 1
    assert load_config(tmp_path).model.num_classes == 10
    config.steps = 2
    assert train(config, tmp_path).step == 2
    first, second = environment.recorded(tmp_path)  # of both starts
    assert (first["step"], second["step"]) == ("0", "1")
    assert first["jax"] == jax.__version__
    assert first["devices"] == "8 x cpu"


@pytest.mark.usefixtures("ordinary_promotion")
def test_a_run_resolves_stores_and_logs_its_automatic_dtype(tmp_path, monkeypatch, capsys):
    config = tiny_transformer_config(steps=1)
    assert config.model.dtype == "auto"
    for dtype in ("float32", "bfloat16"):
        monkeypatch.setattr(training, "dtype_of", lambda name: dtype)  # noqa: B023
        train(config, tmp_path / dtype)
        assert load_config(tmp_path / dtype).model.dtype == dtype
        assert f"Computing in {dtype} (model.dtype=auto)" in capsys.readouterr().out
    assert config.model.dtype == "auto"
    config.steps, config.model.dtype = 2, "bfloat16"
    train(config, tmp_path / "float32")
    printed = capsys.readouterr().out
    assert "Changed since the last start: model.dtype: float32 -> bfloat16" in printed
    assert "model.dtype=auto" not in printed
    assert load_config(tmp_path / "float32").model.dtype == "bfloat16"


def test_counted_classes_are_printed(tmp_path, capsys):
    config = folder.get_config("small")
    config.data.cache_dir = str(tmp_path / "cache")
    config.data.name = pictures_in(tmp_path / "two", "cats/a.png", "cats/b.png", "dogs/a.png")
    Image.new("RGBA", (90, 50), (9, 9, 9, 0)).save(tmp_path / "two" / "dogs" / "clear.png")
    resolve_num_classes(config)
    said = capsys.readouterr().out.splitlines()
    resolve_num_classes(config)
    assert not capsys.readouterr().out  # once is enough
    assert said[:2] == [
        "Found 4 images; 2 classes: cats (2), dogs (2)",
        "Sizes: 36x40 to 90x50 pixels, 1 with transparency",
    ]
    pictures_in(tmp_path / "two", "loose.png")
    (line,) = dataset_summary.lines(tmp_path, ["cats/a.png", "loose.png"], [0, 0], [])
    assert line.startswith("Found 2 images; no classes, since loose.png lies outside the sub-")
    assert "(move it, or leave it out with data.exclude=loose.png)" in line
    files = ["cats/a.png", "loose.png", "other.png"]
    (line,) = dataset_summary.lines(tmp_path, files, [0, 0, 0], [])
    assert "since 2 of them lie outside the sub-folders, such as loose.png (move them, or" in line
    many = [f"c{i}" for i in range(12)]
    (line,) = dataset_summary.lines(
        tmp_path, [f"{name}/a.png" for name in many], list(range(12)), many
    )
    assert line.endswith("c9 (1), ... 2 more")


def grids(workdir):
    return sorted(path.stem for path in (workdir / "samples").glob("*.png"))


@pytest.mark.usefixtures("ordinary_promotion")
def test_early_sample_minutes_adds_a_grid(tmp_path, monkeypatch):
    """Two seconds a step: `monotonic` returns 0, 2, 4, .. seconds."""
    fake_time = SimpleNamespace(monotonic=itertools.count(0.0, 2.0).__next__)
    monkeypatch.setattr(loop, "time", fake_time)
    config = tiny_transformer_config(steps=5, sample_every=100, early_sample_minutes=0.05)
    train(config, tmp_path / "early")
    assert grids(tmp_path / "early") == ["step_0000003", "step_0000005"]


def test_the_early_grid_comes_once_or_never(monkeypatch):
    fake_time = SimpleNamespace(
        monotonic=itertools.chain([10.0, 12.0], itertools.repeat(15.0)).__next__
    )
    monkeypatch.setattr(loop, "time", fake_time)
    passed = loop._true_once_after(5 / 60)
    assert [passed() for _ in range(4)] == [False, False, True, False]
    assert not any(loop._true_once_after(None)() for _ in range(3))


@pytest.mark.usefixtures("ordinary_promotion")
def test_an_interrupted_run_ends_with_a_grid(tmp_path, monkeypatch):
    config = tiny_transformer_config(sample_every=100, steps=50)
    pictured = []

    def interrupt(number, state):
        pictured.append(grids(tmp_path / "run"))  # the checkpoint comes first

    def interrupted_loop(settings, *, step, save, **parts):
        def interrupting_step(*given):
            os.kill(os.getpid(), signal.SIGTERM)
            return step(*given)

        def recording_save(number, state):
            interrupt(number, state)
            save(number, state)

        return TrainingLoop(settings, step=interrupting_step, save=recording_save, **parts)

    monkeypatch.setattr("diffusion_jax.runs.train.TrainingLoop", interrupted_loop)
    state = train(config, tmp_path / "run")
    assert int(state.step) == 1
    assert grids(tmp_path / "run") == ["step_0000001"]
    assert pictured == [[]]
