"""Samples in a folder: shards, resumption, and output files."""

import json
import os
import re
import subprocess
import sys
import time
import weakref
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import quick
from PIL import Image
from tiny import tiny_transformer_config, train

from diffusion_jax.files import npz
from diffusion_jax.generation import image_shards, outputs
from diffusion_jax.generation.image_shards import Shards
from diffusion_jax.runs import sample_folder
from diffusion_jax.runs.run import load

ROOT = Path(__file__).parents[2]
SETTINGS = {"seed": 3, "labels": list(range(100))}


@pytest.fixture(scope="module")
def workdir(tmp_path_factory, ordinary_promotion):
    path = tmp_path_factory.mktemp("runs") / "tiny"
    train(tiny_transformer_config(steps=3), path)
    return path


def image_number(index):
    return np.random.default_rng(index).integers(256, size=(4, 4, 3), dtype=np.uint8)


class FakeSampler:
    """Returns `image_number`s; records its calls and the most arrays alive at once."""

    def __init__(self, stop_at=None):
        self.stop_at, self.sampled = stop_at, []
        self.alive = weakref.WeakSet()
        self.most = 0

    def __call__(self, first, number):
        if first == self.stop_at:
            raise KeyboardInterrupt
        self.sampled.append((first, number))
        rows = np.stack([image_number(i) for i in range(first, first + number)]).view(Watched)
        self.alive.add(rows)
        self.most = max(self.most, len(self.alive))
        return {"images": rows}


class Watched(np.ndarray):
    """An array that a weak set can hold."""

    __hash__ = object.__hash__


@pytest.fixture
def small_shards(monkeypatch):
    monkeypatch.setattr(image_shards, "SHARD", 10)


def write_npz(shards):
    labels = (shards.count, [np.arange(shards.count)])
    arrays = {"arr_0": (shards.count, shards.blocks("images")), "arr_1": labels}
    npz.write_blocks(shards.out / "samples.npz", arrays)


def test_a_streamed_npz_has_the_bytes_of_numpys(tmp_path):
    rng = np.random.default_rng(0)
    for shape in ((7, 4, 4, 3), (5,)):
        for dtype in (np.uint8, np.int32):
            rows = rng.integers(100, size=shape).astype(dtype)
            np.savez(tmp_path / "whole.npz", arr_0=rows, arr_1=rows[:3])
            blocks = (rows[first : first + 2] for first in range(0, len(rows), 2))
            npz.write_blocks(
                tmp_path / "streamed.npz", {"arr_0": (len(rows), blocks), "arr_1": (3, [rows[:3]])}
            )
            written = (tmp_path / "streamed.npz").read_bytes()
            assert written == (tmp_path / "whole.npz").read_bytes()
    with pytest.raises(AssertionError):
        npz.write_blocks(tmp_path / "short.npz", {"arr_0": (4, [rows[:3]])})
    assert not (tmp_path / "short.npz").exists()


def test_shards_of_whole_batches_resume_and_hold_few_images(tmp_path, small_shards):
    whole = np.stack([image_number(i) for i in range(100)])
    np.savez(tmp_path / "whole.npz", arr_0=whole, arr_1=np.arange(100))
    out = tmp_path / "out"
    stopped, advanced = FakeSampler(stop_at=44), []
    with pytest.raises(KeyboardInterrupt):
        Shards.begin(out, SETTINGS, 100, 4).fill(stopped, advanced.append, write=True)
    names = sorted(path.name for path in (out / "unfinished").iterdir())
    shards = [f"{first:08d}.npz" for first in (0, 8, 16, 24, 32)]  # the sixth lacks a batch
    assert names == [*shards, "settings.json"]
    assert advanced == [4] * 11

    again = FakeSampler()
    resumed = Shards.begin(out, dict(SETTINGS), 100, 4)
    resumed.fill(again, advanced.append, write=True)
    assert again.sampled[0] == (40, 4)
    assert len(again.sampled) == 15
    assert max(stopped.most, again.most) <= 3  # two batches of a shard, and the next one
    write_npz(resumed)
    assert (out / "samples.npz").read_bytes() == (tmp_path / "whole.npz").read_bytes()
    resumed.finish()
    assert sorted(path.name for path in out.iterdir()) == ["samples.npz", "settings.json"]
    assert json.loads((out / "settings.json").read_text()) == SETTINGS
    assert len((out / "settings.json").read_text().splitlines()) == 4


def test_the_last_shard_and_the_last_batch_may_be_smaller(tmp_path, small_shards):
    shards, sampler = Shards.begin(tmp_path / "out", SETTINGS, 19, 4), FakeSampler()
    shards.fill(sampler, lambda images: None, write=True)
    assert sampler.sampled == [(0, 4), (4, 4), (8, 4), (12, 4), (16, 3)]
    assert [len(block) for block in shards.blocks("images")] == [8, 8, 3]
    wide = Shards(tmp_path, SETTINGS, 64, 32)
    assert list(wide.firsts) == [0, 32]


def test_only_one_process_writes(tmp_path, small_shards):
    sampler = FakeSampler()
    Shards.begin(tmp_path / "out", {}, 20, 4).fill(sampler, lambda images: None, write=False)
    assert len(sampler.sampled) == 5
    assert not (tmp_path / "out").exists()


def test_other_settings_and_other_files_are_refused(tmp_path, small_shards):
    out = tmp_path / "out"
    Shards.begin(out, SETTINGS, 10, 4).fill(FakeSampler(), lambda images: None, write=True)
    with pytest.raises(ValueError, match=r"other settings \(seed: 3 -> 4\); repeat those"):
        Shards.begin(out, SETTINGS | {"seed": 4}, 10, 4)
    with pytest.raises(ValueError, match=r"other settings \(labels\)"):
        Shards.begin(out, SETTINGS | {"labels": [1] * 100}, 10, 4)
    shard = out / "unfinished" / "00000000.npz"
    shard.write_bytes(shard.read_bytes()[:50])
    with pytest.raises(ValueError, match=r"00000000.npz is damaged.*delete it to sample it again"):
        list(Shards.begin(out, SETTINGS, 10, 4).blocks("images"))
    npz.write(shard, {"images": np.zeros((3, 4, 4, 3), np.uint8)})
    with pytest.raises(ValueError, match="is damaged: it does not have 8 images"):
        list(Shards.begin(out, SETTINGS, 10, 4).blocks("images"))
    (tmp_path / "empty").mkdir()
    (tmp_path / "begun" / "unfinished").mkdir(parents=True)
    (tmp_path / "mine.txt").write_text("mine")
    for free in ("empty", "begun", "new"):
        image_shards.check_free(tmp_path / free)
    for taken in (tmp_path, tmp_path / "mine.txt"):
        with pytest.raises(ValueError, match="choose another folder"):
            image_shards.check_free(taken)


def test_every_kind_of_file_has_the_same_images(workdir, tmp_path):
    kinds = ["grid", "png", "npz", "gif", "webp", "strip"]
    options = outputs.OutputOptions(kinds, film_of=["x", "x0"], frames=3, columns=2, captions=False)
    out = tmp_path / "out"
    run = load(workdir)
    written = sample_folder.sample_into(
        run, run.experiment, out, options, labels="3,7", count=4, seed=1
    )
    names = ["grid.png", "png", "samples.npz", "denoising.gif", "denoising_x0.gif"]
    names += ["denoising.webp", "denoising_x0.webp", "strip.png", "strip_x0.png"]
    assert list(written) == [out / name for name in names]
    assert sorted(path.name for path in out.iterdir()) == sorted([*names, "settings.json"])
    sampled = np.load(out / "samples.npz")["arr_0"][..., 0]
    strips = {}
    for name in ("strip", "strip_x0"):
        with Image.open(out / f"{name}.png") as strip:
            strips[name] = np.asarray(strip)
            assert strip.size == (3 * 9 + 1, 4 * 9 + 1)
        for row in range(4):
            assert np.array_equal(strips[name][1 + 9 * row :, 19:][:8, :8], sampled[row])
    assert not np.array_equal(strips["strip"], strips["strip_x0"])
    settings = json.loads((out / "settings.json").read_text())
    assert settings["labels"] == [3, 3, 7, 7]
    assert settings["names"] == {"3": "3", "7": "7"}
    assert (settings["count"], settings["frames"], settings["film_of"]) == (4, 3, ["x", "x0"])
    pngs = sorted(path.name for path in (out / "png").iterdir())
    assert pngs == [f"{i:06d}_label{label}.png" for i, label in enumerate(settings["labels"])]
    for row, name in enumerate(pngs):
        with Image.open(out / "png" / name) as png:
            assert np.array_equal(np.asarray(png), sampled[row])


def test_image_files_have_the_class_names_of_the_run(workdir, tmp_path):
    named = tmp_path / "named"
    named.mkdir()
    for path in workdir.iterdir():
        (named / path.name).symlink_to(path)
    (named / "classes.txt").unlink()
    (named / "classes.txt").write_text("".join(f"number {i}, digit\n" for i in range(10)))
    run = load(named)
    shown = {}
    for captions in (True, False):
        options = outputs.OutputOptions(["grid", "png"], captions=captions)
        out = tmp_path / str(captions)
        sample_folder.sample_into(
            run, run.experiment, out, options, labels="Number 3, DIGIT,7", count=4
        )
        with Image.open(out / "grid.png") as grid:
            shown[captions] = np.asarray(grid)
    assert np.array_equal(shown[True][:, -19:], shown[False])  # a row each: names at their left
    assert shown[True][:, :-19].max() > 100
    assert (out / "png" / "000003_label7_number_7_digit.png").is_file()
    assert json.loads((out / "settings.json").read_text())["names"]["3"] == "number 3, digit"


def test_a_large_grid_shows_the_first_images(monkeypatch, tmp_path):
    monkeypatch.setattr(outputs, "LARGEST_GRID", 7)
    pixels = np.stack([image_number(i) for i in range(12)])
    served = []

    def blocks():
        for first in range(0, 12, 4):
            served.append(first)
            yield pixels[first : first + 4]

    sampled = outputs.Samples(blocks, np.arange(12), [])
    options = outputs.OutputOptions(columns=7)
    outputs.writers(options)["grid.png"](tmp_path / "grid.png", sampled)
    with Image.open(tmp_path / "grid.png") as grid:
        assert grid.size == (7 * 5 + 1, 6)
        assert np.array_equal(np.asarray(grid)[1:5, 31:35], pixels[6])
    assert served == [0, 4]
    assert outputs.note("grid.png", 12) == "the first 7 of 12 images"
    assert outputs.note("grid.png", 7) == outputs.note("samples.npz", 12) == ""


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kinds": ["gif"]}, "A GIF of 257 images is too large; choose --count up to 256"),
        ({"kinds": ["grid", "strip"]}, "A film strip of 257 images"),
        ({"kinds": ["jpeg"]}, "Unknown --save 'jpeg'; known: grid, png, npz, gif, webp, strip"),
        ({"kinds": []}, "--save is empty"),
        ({"film_of": ["noise"]}, "Unknown --film_of 'noise'; known: x, x0"),
    ],
)
def test_invalid_output_options_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        outputs.OutputOptions(**changes).check_count(257)


def test_film_frames_default_to_the_kind_of_film():
    assert outputs.OutputOptions(["grid"], frames=7).film_frames == 0
    assert outputs.OutputOptions(["gif", "strip"]).film_frames == 50
    assert outputs.OutputOptions(["strip"]).film_frames == 10
    assert outputs.OutputOptions(["strip"], frames=7).film_frames == 7


def test_samples_that_are_not_finite_leave_no_files(workdir, tmp_path):
    run = load(workdir)
    run.params = jax.tree.map(lambda leaf: leaf * jnp.nan, run.params)
    with pytest.raises(ValueError, match=r"The samples are not finite \(checkpoint 3 of"):
        sample_folder.sample_into(
            run, run.experiment, tmp_path / "out", outputs.OutputOptions(), count=8
        )
    assert not (tmp_path / "out").exists()


def start(workdir, out):
    arguments = ["--count=3000", "--batch_size=200", "--steps=20", "--save=npz,grid"]
    arguments += [f"--workdir={workdir}", f"--out={out}"]
    flags = quick.flags(1)
    return subprocess.Popen(
        [sys.executable, "-m", "scripts.sample", *arguments],
        cwd=ROOT,
        env=os.environ | {"XLA_FLAGS": flags},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    stdout, stderr = process.communicate(timeout=300)
    assert process.returncode == 0, stderr
    return stdout, [int(done) for done in re.findall(r"(\d+)/3000", stderr)]


def test_the_same_command_resumes_after_kill_9(workdir, tmp_path):
    out = tmp_path / "killed"
    killed, whole = start(workdir, out), start(workdir, tmp_path / "whole")
    while killed.poll() is None and not (out / "unfinished" / "00000000.npz").is_file():
        time.sleep(0.005)
    killed.kill()
    killed.communicate()
    assert [path.name for path in out.iterdir()] == ["unfinished"]
    assert not (out / "unfinished" / "00002000.npz").exists()
    stdout, counts = finish(whole)
    assert f"{tmp_path}/whole/grid.png (the first 1024 of 3000 images)\n" in stdout
    assert (counts[0], counts[-1]) == (0, 3000)
    _, counts = finish(start(workdir, out))
    assert counts[0] in (1000, 2000)
    assert counts[-1] == 3000
    names = ["grid.png", "samples.npz", "settings.json"]
    assert sorted(path.name for path in out.iterdir()) == names
    for name in names:
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
