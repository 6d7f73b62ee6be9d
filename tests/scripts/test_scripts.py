"""The command line: flags, exit codes, and one line for a mistake."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import quick
from ml_collections import ConfigDict
from PIL import Image
from tiny import tiny_transformer_config, train

from configs import base
from diffusion_jax.config import schema
from diffusion_jax.generation.class_labels import parse_labels
from diffusion_jax.workdir.run_files import load_config

ROOT = Path(__file__).parents[2]
DIGITS = "--config=configs/digits.py"


def run(module, *arguments, devices=1):
    flags = quick.flags(devices)
    return subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        cwd=ROOT,
        env=os.environ | {"XLA_FLAGS": flags},
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture(scope="module")
def workdir(tmp_path_factory, ordinary_promotion):
    path = tmp_path_factory.mktemp("runs") / "tiny"
    train(tiny_transformer_config(), path)
    return path


def write_config(folder, line):
    path = folder / "experiment.py"
    path.write_text(
        "from configs import digits\n"
        f"def get_config():\n    config = digits.get_config()\n    {line}\n    return config\n"
    )
    return f"--config={path}"


MISTAKES = {
    "unknown key": (["scripts.train", DIGITS, "--config.modle.width=8"], "modle"),
    "unknown nested key": (["scripts.train", DIGITS, "--config.batchsize=8"], "batchsize"),
    "unknown block": (
        ["scripts.train", DIGITS, "--config.model.blocks=res,rse"],
        "Unknown block 'rse' in blocks='res,rse'; known blocks: ",
    ),
    "wrong type": (["scripts.train", DIGITS, "--config.batch_size=many"], "batch_size"),
    "None for a field that is always on": (
        ["scripts.train", DIGITS, "--config.steps=None"],
        "steps=None must be of type int",
    ),
    "devices": (["scripts.train", DIGITS, "--config.batch_size=63"], "63 is not divisible by 2"),
    "resolution": (["scripts.train", DIGITS, "--config.model.levels=4"], "resolution=8"),
    "no config": (["scripts.train"], "--config digits"),
    "missing config": (
        ["scripts.train", "--config=configs/nothing.py"],
        "There is no config configs/nothing.py",
    ),
    "a field without its section": (
        ["scripts.train", DIGITS, "--learning_rate=1"],
        "--config.optimizer.learning_rate=VALUE",
    ),
    "a misspelt field": (
        ["scripts.train", DIGITS, "--config.model.widht=3"],
        "there is no config.model.widht; did you mean config.model.width?",
    ),
    "a field of another network": (
        ["scripts.train", "--config=configs/digits_dit.py", "--config.model.remat=8"],
        "there is no config.model.remat",
    ),
    "unknown flag": (["scripts.train", DIGITS, "--workdri=x"], "workdri"),
    "stray word": (["scripts.train", DIGITS, "configs/res.py"], "configs/res.py"),
    "missing workdir": (
        ["scripts.sample", "--workdir=/nowhere/at/all"],
        "not the workdir of a run",
    ),
    "a file for a folder": (
        ["scripts.train", DIGITS, "--workdir=README.md/run"],
        "README.md",
    ),
    "half a cluster": (
        ["scripts.train", DIGITS, "--process_id=1"],
        "--process_id belong together",
    ),
    "no workdir": (["scripts.sample"], "--workdir runs/digits"),
    "a flag of another command": (
        ["scripts.data", "tfds", "--source=x"],
        "--source belongs to `mnist` and `imagenet64`; `tfds` does not take it",
    ),
    "a config of another command": (
        ["scripts.data", "imagenet64", DIGITS, "--config.seed=3"],
        "--config belongs to `check`; `imagenet64` does not take it",
    ),
    "a flag of another way to use a command": (
        ["scripts.data", "check", DIGITS, "--split=all"],
        "--split belongs to `imagenet64` and `check --name`; `check --config` does not take it",
    ),
    "a flag that goes with another flag": (
        ["scripts.convert", "--to=original", "--hyperparameters=x"],
        "--hyperparameters belongs to `--from`; `--to` does not take it",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_gets_one_line(name, tmp_path):
    (module, *arguments), message = MISTAKES[name]
    if module == "scripts.train" and not any("workdir" in text for text in arguments):
        arguments.append(f"--workdir={tmp_path / 'run'}")
    check_mistake(run(module, *arguments, devices=2), message)
    assert not (tmp_path / "run").exists()


# They choose among the ways to convert, which take both.
FOR_ALL = {("convert", "from"), ("convert", "to")}


@pytest.mark.parametrize("script", ["fid", "data", "convert"])
def test_help_has_a_sentence_and_the_commands_of_each_flag(script):
    """A flag missing from the table of commands would be accepted by all of them."""
    done = run(f"scripts.{script}", "--help")
    assert done.returncode == 0
    text, _, machines = done.stdout.partition("\nSeveral machines:")
    assert "--coordinator TEXT" in machines
    entries = [" ".join(entry.split()) for entry in text.split("\n  --")[1:]]
    assert len(entries) > 7
    for entry in entries:
        name, _, about = entry.removeprefix("[no]").partition(" ")
        about = about if entry.startswith("[no]") else about.partition(" ")[2]
        if not about.startswith("Alias") and (script, name) not in FOR_ALL:
            assert re.match(r"\([a-z0-9, -]+\) \w", about), entry


def test_help_shows_the_fields_of_a_config_with_their_comments():
    text = " ".join(run("scripts.train", "--help").stdout.split())
    values = schema.flatten(base.get_config())
    lacking = [name for name in values if f"--config.{name}=" not in text]
    # Sections of options follow from the tables, and these from each other.
    kept = [name for name in lacking if name.count(".") < 2]
    assert not kept
    assert "--config.label_dropout=0.2 probability of the null class, for" in text
    assert "--config.data.shorter_side=None random-resized-crop cuts from" in text


@pytest.mark.parametrize("given", ["digits", "digits.py", "configs/digits.py", "digits:dit"])
def test_a_config_of_the_package_is_found_by_name_in_any_folder(given, tmp_path):
    (tmp_path / "digits").mkdir()  # which is no config
    config = config_in(tmp_path, f"--config={given}")
    assert config.data.name == "digits"
    assert config.model.name == ("dit" if given.endswith("dit") else "unet")


def test_a_file_comes_before_a_config_of_the_package(tmp_path):
    write_config(tmp_path, "config.steps = 17")
    (tmp_path / "experiment.py").rename(tmp_path / "digits.py")
    assert config_in(tmp_path, "--config=digits.py").steps == 17


def config_in(folder, *arguments):
    """The config of a command line in a folder, in a process of its own."""
    code = (
        "import sys; from absl import flags; from scripts.cli import config_flag\n"
        "config_flag.define('The experiment.'); flags.FLAGS(sys.argv)\n"
        "import json; print(json.dumps(config_flag.value('digits').to_dict()))"
    )
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-c", code, *arguments]
    environment = os.environ | {"PYTHONPATH": path}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return ConfigDict(json.loads(done.stdout))


def test_none_on_the_command_line_switches_a_field_off(tmp_path):
    """A field of any type can be None; other values are parsed as usual."""
    config = config_in(
        tmp_path,
        "--config=digits",
        "--config.optimizer.clip_norm=None",
        "--config.optimizer.warmup_steps=5",
        "--config.model.num_classes=None",
        "--config.data.include=None",
        "--config.data.exclude=*seg*,None/*",
        "--config.model.remat=8,4",
        "--config.sampling.guidance_high=2.5",
    )
    assert config.optimizer.clip_norm is None
    assert config.optimizer.warmup_steps == 5
    assert config.model.num_classes is None
    assert config.data.include is None
    assert config.data.exclude == "*seg*,None/*"
    assert config.model.remat == [8, 4]
    assert config.sampling.guidance_high == 2.5
    assert config_in(tmp_path, "--config=digits", "--config.model.remat=None").model.remat == []


def check_mistake(result, message):
    assert result.returncode != 0
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1, result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("config.modle = 3", "modle"),
        ("config.model.blocks = 'atn'", "start with one of: res, conv"),
        ("config.batch_size = 'many'", "batch_size"),
    ],
)
def test_a_mistake_in_a_file_gets_one_line(line, message, tmp_path):
    arguments = [write_config(tmp_path, line), f"--workdir={tmp_path / 'run'}"]
    check_mistake(run("scripts.train", *arguments), message)
    assert not (tmp_path / "run").exists()


def test_dry_run_shows_config_and_parameters(tmp_path):
    config = "--config=configs/res_res.py"
    result = run(
        "scripts.train", config, "--dry_run", "--config.model.blocks=res,conv,clsAtn,chnAtn"
    )
    assert result.returncode == 0, result.stderr
    assert '"blocks": "res,conv,clsAtn,chnAtn"' in result.stdout
    assert result.stdout.strip().endswith("Parameters: 144,130,269")


def test_a_run_trains_and_is_sampled_from_the_command_line(tmp_path):
    small = [f"--config.model.{name}=8" for name in ("width", "time_dim", "label_dim")]
    small += [
        "--config.steps=2",
        "--config.optimizer.warmup_steps=1",
        "--config.batch_size=4",
        "--config.sampling.steps=2",
    ]
    small += ["--config.model.blocks=res", "--config.sampling.grid_columns=1"]
    result = run("scripts.train", DIGITS, f"--workdir={tmp_path}", *small)
    assert result.returncode == 0, result.stderr
    assert f"{tmp_path}/samples" in result.stdout
    assert "images/s" in result.stderr
    assert len(result.stderr.splitlines()) < 20
    again = run("scripts.sample", f"--workdir={tmp_path}", "--count=2")
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "generated" / "0001" / "grid.png").exists()


def test_the_same_seed_gives_the_same_images_on_any_number_of_devices(workdir, tmp_path):
    settings = ["--labels=all", "--seed=5", "--steps=6", "--eta=0.5", "--guidance=2"]
    sampled = {}
    for devices in (1, 2, 8):
        out = tmp_path / str(devices)
        result = run(
            "scripts.sample",
            f"--workdir={workdir}",
            f"--out={out}",
            "--save=npz",
            *settings,
            devices=devices,
        )
        assert result.returncode == 0, result.stderr
        sampled[devices] = np.load(out / "samples.npz")
    assert sampled[1]["arr_0"].shape == (10, 8, 8, 1)
    assert sampled[1]["arr_1"].tolist() == list(range(10))
    for devices in (2, 8):
        # One gray level: rounding may fall differently in batches of another size.
        difference = sampled[devices]["arr_0"].astype(int) - sampled[1]["arr_0"]
        assert abs(difference).max() <= 1


def test_sampling_writes_grid_png_npz_and_gif_of_the_same_images(workdir, tmp_path):
    result = run(
        "scripts.sample",
        f"--workdir={workdir}",
        f"--out={tmp_path / 'out'}",
        "--labels=3,7",
        "--count=6",
        "--columns=3",
        "--upscale=2",
        "--save=grid,png,npz,gif",
        "--stride=250",
        "--frames=3",
        "--params=raw",
        "--checkpoint=3",
        "--batch_size=4",
        "--noclip",
        "--captions=none",
    )
    assert result.returncode == 0, result.stderr
    out = tmp_path / "out"
    written = np.load(out / "samples.npz")
    assert written["arr_0"].dtype == np.uint8
    assert written["arr_1"].tolist() == [3, 3, 3, 7, 7, 7]
    with Image.open(out / "grid.png") as grid:
        assert (grid.mode, grid.size) == ("L", (3 * 17 + 1, 2 * 17 + 1))
        assert np.array_equal(np.asarray(grid)[1:17:2, 1:17:2], written["arr_0"][0, ..., 0])
    with Image.open(out / "denoising.gif") as film:
        assert film.n_frames == 3
    assert len(list((out / "png").iterdir())) == 6
    settings = json.loads((out / "settings.json").read_text())
    assert settings["stride"] == 250
    assert (settings["params"], settings["checkpoint"]) == ("raw", 3)


def test_sampling_overwrites_nothing_and_rejects_params_of_another_model(workdir, tmp_path):
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path, tmp_path / "file"):
        result = run("scripts.sample", f"--workdir={workdir}", f"--out={out}")
        check_mistake(result, "choose another folder")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    changed = shutil.copytree(workdir, tmp_path / "changed")
    text = (changed / "config.json").read_text()
    (changed / "config.json").write_text(text.replace('"width": 8', '"width": 16'))
    result = run("scripts.sample", f"--workdir={changed}")
    check_mistake(result, "is of another model than the config")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--labels=3,1,4", "--count=2"], "less than the number of labels, 3"),
        (["--labels=12"], "Unknown label '12'; known: 0 to 9"),
        (["--steps=2000"], "1..1000"),
        (["--steps=5", "--stride=5"], "choose one"),
        (["--steps=5", "--spacing=sections", "--option=sections=4"], "has its own number of steps"),
        (["--save=jpeg"], "grid, png, npz, gif"),
        (["--frames=5"], "add gif, webp or strip to --save"),
        (["--checkpoint=5"], "there: 3, 6"),
    ],
)
def test_a_mistake_in_sampling_gets_one_line_and_writes_nothing(workdir, arguments, message):
    check_mistake(run("scripts.sample", f"--workdir={workdir}", *arguments, devices=2), message)
    assert not (workdir / "generated").exists()


def test_a_model_of_the_package_is_sampled_by_its_name(tmp_path):
    """Unless a run has that name; the results are in a folder of that name."""
    arguments = ["--workdir=digits", "--labels=7", "--count=4", "--steps=3", "--upscale=1"]
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-m", "scripts.sample", *arguments],
        **{"cwd": tmp_path, "capture_output": True, "text": True},
        env=os.environ | {"PYTHONPATH": path},
    )
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "digits" / "generated" / "0001" / "grid.png") as grid:
        assert grid.width > 2 * 8
    raw = run("scripts.sample", "--workdir=digits", "--params=raw")
    check_mistake(raw, "digits is a packaged model with EMA parameters alone")
    # A run of the name comes first.
    config = tiny_transformer_config(steps=1, sampling__steps=2)
    train(config, tmp_path / "digits")
    assert load_config(tmp_path / "digits").model.name == "dit"


def test_labels_are_names_indices_all_none_or_random():
    names = ["cat", "dog", "7"]

    def parse(text, count=None, classes=3):
        return parse_labels(text, count, classes, names, seed=0).tolist()

    assert parse("dog,#0") == [1, 0]
    assert parse("7") == parse("=7") == [2]
    assert parse("all") == [0, 1, 2]
    assert parse("all", 6) == [0, 0, 1, 1, 2, 2]
    assert parse("none", 2) == [3, 3]
    assert set(parse("random", 100)) == {0, 1, 2}
    assert parse("random", 5, classes=0) == [0] * 5
    with pytest.raises(ValueError, match="no classes"):
        parse("0", classes=0)
    for text in ("#0,none", "random,#1"):
        with pytest.raises(ValueError, match=r"labels: '(none|random)' .*; give it alone"):
            parse(text)
