"""Import and export of checkpoints of the PyTorch original."""

import importlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest
import quick
from numpy.testing import assert_allclose, assert_array_equal
from original_golden import FOLDER
from tiny import tiny_transformer_config

from configs import original as original_config
from diffusion_jax.config.experiment import Experiment
from diffusion_jax.data import imagenet
from diffusion_jax.evaluation.evaluator import Evaluator
from diffusion_jax.evaluation.features import make_extractor
from diffusion_jax.files import torch_reader, torch_writer
from diffusion_jax.importers import original
from diffusion_jax.importers.imported_model import with_settings
from diffusion_jax.workdir.run_files import load_classes, load_config
from scripts.cli import conversions
from scripts.cli.config_flag import with_config_of_workdir

ROOT = Path(__file__).parents[2]
TFDS = FOLDER.parent / "tfds"


def run(script, *arguments):
    command = [sys.executable, "-m", f"scripts.{script}", *map(str, arguments)]
    env = os.environ | {"XLA_FLAGS": quick.COMPILER}
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=600)


def succeed(script, *arguments):
    done = run(script, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def convert(workdir, model=FOLDER / "train_tiny.pkl", params=FOLDER / "train_tiny.json", *more):
    files = ["--model", model, "--hyperparameters", params, "--workdir", workdir]
    return run("convert", "--from", "original", *files, *more)


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    """A run made of the golden checkpoint and its optimizer."""
    workdir = tmp_path_factory.mktemp("imported") / "run"
    done = convert(
        workdir,
        FOLDER / "train_tiny.pkl",
        FOLDER / "train_tiny.json",
        "--optimizer",
        FOLDER / "train_tiny_optim.pkl",
    )
    assert done.returncode == 0, done.stderr
    return workdir


def test_an_imported_workdir_has_the_config_of_the_checkpoint(imported):
    config = load_config(imported)
    assert config.model.blocks == "res,conv,clsAtn,chnAtn"
    assert config.model.time_embedding == "published"
    assert config.original_quirks
    assert config.loss.kind == "original"
    assert config.optimizer.eps == 1e-4
    assert [path.name for path in (imported / "checkpoints").iterdir()] == ["1"]
    assert not imported.with_name("run.importing").exists()


def test_an_imported_and_exported_checkpoint_is_equal_bit_for_bit(imported, tmp_path):
    out = tmp_path / "exported"
    where = ["--to", "original", "--workdir", imported, "--out", out]
    printed = succeed("convert", *where, "--params", "raw")
    assert "model_1e_1s.pkl" in printed
    written = json.loads((out / "model_params_1e_1s.json").read_text())
    original = json.loads((FOLDER / "train_tiny.json").read_text())
    assert list(written.items()) == list(original.items())
    state = torch_reader.read(out / "model_1e_1s.pkl")
    original = torch_reader.read(FOLDER / "train_tiny.pkl")
    assert list(state) == list(original)
    for name, tensor in original.items():
        assert_array_equal(state[name], tensor)
    optimizer = torch_reader.read(out / "optim_1e_1s.pkl")
    original = torch_reader.read(FOLDER / "train_tiny_optim.pkl")
    assert optimizer["param_groups"] == original["param_groups"]
    for index, tensors in original["state"].items():
        for name, tensor in tensors.items():
            assert_array_equal(optimizer["state"][index][name], tensor)
    again = run("convert", *where, "--params", "raw")
    assert again.returncode == 1
    assert "already exists" in again.stderr


def test_blanks_between_block_names_are_not_exported(tmp_path):
    """Files of a run with model.blocks="res, conv" equal the original's bit for bit."""
    checkpoint = original.read_checkpoint(FOLDER / "train_tiny.pkl", FOLDER / "train_tiny.json")
    adam, optimizer = original.read_optimizer(FOLDER / "train_tiny_optim.pkl", checkpoint)
    config = original_config.get_config()
    config.update_from_flattened_dict(checkpoint.settings | optimizer)
    config.model.blocks = "res, conv , clsAtn,  chnAtn"
    experiment = Experiment.from_config(config)
    original.write_checkpoint(tmp_path, experiment, checkpoint.params, epoch=1, step=1, adam=adam)
    names = ("model_1e_1s.pkl", "train_tiny.pkl"), ("optim_1e_1s.pkl", "train_tiny_optim.pkl")
    for ours, theirs in names:
        written, read = torch_reader.read(tmp_path / ours), torch_reader.read(FOLDER / theirs)
        jax.tree.map(partial(assert_array_equal, strict=True), written, read)
    written = json.loads((tmp_path / "model_params_1e_1s.json").read_text())
    assert written == json.loads((FOLDER / "train_tiny.json").read_text())


def test_ema_parameters_are_exported_without_the_optimizer(imported, tmp_path):
    succeed("convert", "--to", "original", "--workdir", imported, "--out", tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "model_1e_1s.pkl",
        "model_params_1e_1s.json",
    ]


def test_a_fresh_optimizer_is_not_exported(tmp_path, capsys):
    """The original would take its zeros for the state of AdamW."""
    files = FOLDER / "train_tiny.pkl", FOLDER / "train_tiny.json", None
    settings = {"time_embedding": "published", "resolution": 64, "grad_acc_steps": 1}
    conversions.import_original(*files, tmp_path / "run", **settings)
    printed = capsys.readouterr().out
    assert printed.endswith(
        "--config.data.name=folder:PATH  (a folder with 10 sub-folders, its classes)\n"
    )
    out = tmp_path / "out"
    conversions.export_original(tmp_path / "run", out, checkpoint=None, raw=True)
    assert "Note: no file of the optimizer: none was imported" in capsys.readouterr().out
    assert sorted(path.suffix for path in out.iterdir()) == [".json", ".pkl"]


@pytest.mark.parametrize(
    ("config", "needed"),
    [
        ("imagenet64", ""),
        ("edm_cifar10", ""),
        ("adm128", " --config.data.name=folder:PATH  (a folder with 1,000 sub-folders"),
        ("landscape64", " --config.data.name=folder:PATH"),
    ],
)
def test_the_training_command_names_data_with_the_classes_of_the_model(config, needed):
    config = importlib.import_module(f"configs.{config}").get_config()
    text = conversions.data_flag(config)
    assert text.startswith(needed)
    assert bool(text) == bool(needed)
    config.data.name, config.model.num_classes = "imagenet64", 47
    assert "a folder with 47 sub-folders" in conversions.data_flag(config)


def test_models_of_1000_classes_get_the_class_names_of_imagenet(tmp_path):
    classes = imagenet.class_names()
    config = load_config(make_wide(tmp_path))
    assert config.model.num_classes == 1000
    assert load_classes(tmp_path / "run") == classes


def make_wide(tmp_path):
    """A run imported from the golden model with 1,000 classes in place of its ten."""
    state = torch_reader.read(FOLDER / "train_tiny.pkl")
    state["c_emb.weight"] = np.tile(state["c_emb.weight"], (1, 100))
    torch_writer.write(tmp_path / "wide.pkl", state)
    done = convert(tmp_path / "run", tmp_path / "wide.pkl", other_json(tmp_path, num_classes=1000))
    assert done.returncode == 0, done.stderr
    return tmp_path / "run"


def test_an_imported_run_is_sampled_with_ddim_and_with_the_originals_solver(imported, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(imported, workdir)
    common = ["--workdir", workdir, "--count", 2, "--labels", "3", "--save", "npz"]
    succeed("sample", *common, "--stride", 250, "--out", tmp_path / "default")
    as_original = ["--solver", "original", "--stride", 250, "--ddim_scale", 4]
    succeed("sample", *common, *as_original, "--out", tmp_path / "original")
    settings = json.loads((tmp_path / "original" / "settings.json").read_text())
    assert (settings["eta"], settings["clip"], settings["guidance"]) == (2, False, 4)
    samples = [
        np.load(tmp_path / kind / "samples.npz")["arr_0"] for kind in ("default", "original")
    ]
    assert samples[0].shape == samples[1].shape == (2, 64, 64, 3)
    assert (samples[0] != samples[1]).any()


def test_an_imported_run_is_trained_and_exported(tmp_path):
    """Without --config, and with a model without classes."""
    workdir = tmp_path / "run"
    model = FOLDER / "uncond_atn.pkl"
    done = convert(workdir, model, FOLDER / "uncond_atn.json", "--grad_acc_steps", 2)
    assert done.returncode == 0, done.stderr
    data = ["--config.data.name=tfds:imagenet_resized/64x64", f"--config.data.data_dir={TFDS}"]
    data += [f"--config.data.cache_dir={tmp_path / 'cache'}"]
    settings = ["--config.steps=1", "--config.batch_size=2", "--config.sampling.stride=500"]
    grid = ["--config.sampling.grid_rows=1", "--config.sampling.grid_columns=1"]
    succeed("train", "--workdir", workdir, *data, *settings, *grid)
    last = json.loads((workdir / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["step"] == 1
    assert 0.5 < last["loss"] < 3
    out = tmp_path / "exported"
    printed = succeed("convert", "--to", "original", "--workdir", workdir, "--out", out)
    # One update of two micro-batches, which is what the original counts.
    assert "model_3s.pkl" in printed
    assert "before 17 May 2024" in printed


def test_the_config_of_the_workdir_replaces_a_missing_flag(imported):
    added = f"--config=of_workdir:{imported}"
    for given in (["--workdir", str(imported)], [f"-workdir={imported}"]):
        argv = ["train", *given, "--config.steps=3"]
        assert with_config_of_workdir(argv) == ["train", added, *argv[1:]]
    for argv in (
        ["train", "--config=a.py", f"--workdir={imported}"],
        ["train", f"--workdir={imported / 'nothing'}"],
        ["train", "--workdir"],
    ):
        assert with_config_of_workdir(argv) == argv


@pytest.mark.parametrize(
    ("time_embedding", "code"), [("head", "since 17 May"), ("sin", "before 17 May")]
)
def test_the_time_embedding_is_stored_in_the_config(tmp_path, time_embedding, code):
    workdir, out = tmp_path / "run", tmp_path / "out"
    model, params = FOLDER / "odd.pkl", FOLDER / "odd.json"
    done = convert(workdir, model, params, "--time_embedding", time_embedding)
    assert done.returncode == 0, done.stderr
    assert load_config(workdir).model.time_embedding == time_embedding
    printed = succeed("convert", "--to", "original", "--workdir", workdir, "--out", out)
    assert code in printed


def test_files_of_early_versions_of_the_original_are_read(tmp_path):
    values = json.loads((FOLDER / "train_tiny.json").read_text())
    for key in ("blk_types", "atn_resolution", "epoch", "step"):
        del values[key]
    old = tmp_path / "old.json"
    old.write_text(json.dumps(values | {"num_res_blocks": 2}))
    model = tmp_path / "model_7e_900s.pkl"
    shutil.copy(FOLDER / "train_tiny.pkl", model)
    checkpoint = original.read_checkpoint(model, old)
    assert checkpoint.settings["model.blocks"] == "res,conv,clsAtn,chnAtn"
    assert checkpoint.settings["model.window"] == 16
    assert (checkpoint.epoch, checkpoint.step) == (7, 900)


def other_json(tmp_path, **changes):
    values = json.loads((FOLDER / "train_tiny.json").read_text()) | changes
    path = tmp_path / "other.json"
    path.write_text(json.dumps({k: v for k, v in values.items() if v != "missing"}))
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"embCh": 16}, "embCh is 16"),
        ({"chMult": 2}, "embCh * 2^chMult is 32"),
        ({"num_blocks": 3}, "num_blocks is 3"),
        ({"blk_types": ["res", "conv", "atn", "chnAtn"]}, "blk_types"),
        ({"num_classes": 11}, "num_classes is 11"),
        ({"c_dim": None}, "num_classes is None"),
        ({"t_dim": 0}, "t_dim=0"),
        ({"T": "many"}, "T='many'"),
        ({"beta_sched": "cubic"}, "beta_sched='cubic'"),
        ({"blk_types": ["res", "rse"]}, "known blocks"),
        ({"blk_types": ["res", "clsAtn,chnAtn"]}, "commas or blanks"),
        ({"blk_types": ["res", 3]}, "not a list of 1 to 32"),
        ({"blk_types": []}, "not a list of 1 to 32"),
        ({"blk_types": ["atn", "res"]}, "starts with 'atn'"),
        ({"blk_types": "missing"}, "num_res_blocks"),
        ({"inCh": "missing"}, "has no inCh"),
        ({"num_blocks": 10**9}, "num_blocks=1000000000"),
    ],
)
def test_a_json_of_another_model_is_rejected(tmp_path, changes, message):
    with pytest.raises(ValueError, match=r"other\.json") as caught:
        original.read_checkpoint(FOLDER / "train_tiny.pkl", other_json(tmp_path, **changes))
    assert message in str(caught.value)


@pytest.mark.parametrize("change", ["missing", "extra", "shape", "nan"])
def test_weights_that_do_not_fit_are_rejected(tmp_path, change):
    state = torch_reader.read(FOLDER / "train_tiny.pkl")
    name = "unet.upBlocks.1.block.0.res_conv.weight"
    if change == "missing":
        del state[name]
    elif change == "extra":
        state[name := "unet.extra.weight"] = np.zeros(2, np.float32)
    elif change == "shape":
        state[name] = state[name][:-1]
    else:
        state[name] = np.full_like(state[name], np.nan)
    torch_writer.write(tmp_path / "changed.pkl", state)
    with pytest.raises(ValueError, match=r"changed\.pkl") as caught:
        original.read_checkpoint(tmp_path / "changed.pkl", FOLDER / "train_tiny.json")
    assert name in str(caught.value)


def damaged(tmp_path, kind):
    """Returns (model, json, more) of a call of scripts.convert that must fail."""
    model, params = FOLDER / "train_tiny.pkl", FOLDER / "train_tiny.json"
    bad = tmp_path / "bad.pkl"
    match kind:
        case "truncated":
            bad.write_bytes(model.read_bytes()[:300_000])
        case "malicious":
            with zipfile.ZipFile(bad, "w") as file:
                file.writestr("x/data.pkl", b"\x80\x02cos\nsystem\nX\x07\x00\x00\x00echo ha\x85R.")
        case "text":
            bad.write_text("no weights")
        case "optimizer":
            return model, params, ["--optimizer", model]
        case "of another model":
            return model, FOLDER / "odd.json", []
        case "missing":
            return tmp_path / "nowhere.pkl", params, []
        case "flag":
            return model, params, ["--checkpoint", 3]
        case "resolution":
            return model, params, ["--resolution", 50]
    return bad, params, []


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("truncated", "bad.pkl is damaged"),
        ("malicious", "refers to 'os.system'"),
        ("text", "bad.pkl is damaged, or not a file of torch.save"),
        ("optimizer", "not the state of an optimizer"),
        ("of another model", "not of one model"),
        ("missing", "nowhere.pkl"),
        ("flag", "--checkpoint belongs to `--to`; `--from original` does not take it"),
        ("resolution", "data.resolution=50 is not divisible"),
    ],
)
def test_a_bad_file_is_one_line_of_error_and_writes_nothing(tmp_path, kind, message):
    model, params, more = damaged(tmp_path, kind)
    before = sorted(tmp_path.iterdir())
    done = convert(tmp_path / "run", model, params, *more)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert message in done.stderr
    assert sorted(tmp_path.iterdir()) == before


def test_a_workdir_is_not_overwritten(imported):
    before = (imported / "config.json").read_bytes()
    done = convert(imported)
    assert done.returncode == 1
    assert "already exists" in done.stderr
    assert (imported / "config.json").read_bytes() == before


def test_a_run_that_the_original_computes_differently_is_not_exported(imported, tmp_path):
    config = load_config(imported)
    original.check_exportable(config)
    for field, value in {
        "original_quirks": False,
        "model.time_embedding": "standard",
        "model.options.conv.expansion": 4,
        "parameterization.name": "v",
        "schedule.name": "continuous_cosine",
        "schedule.first_timestep": 0,
        "schedule.rescale_timesteps": True,
    }.items():
        with pytest.raises(ValueError, match=f"{field}={value}"):
            original.check_exportable(with_settings(config, {field: value}))
    with pytest.raises(ValueError, match=r"model\.name=dit: the original has no such network"):
        original.check_exportable(tiny_transformer_config())


def test_fid_statistics_are_converted_to_an_npz(tmp_path):
    features = np.random.default_rng(0).normal(size=(50, 8))
    mean, covariance = features.mean(0).astype(np.float16), np.cov(features, rowvar=False)
    np.save(tmp_path / "mean.npy", mean)
    np.save(tmp_path / "cov.npy", covariance)
    files = ["--from", "original", "--mean", tmp_path / "mean.npy", "--out", tmp_path / "ref.npz"]
    succeed("convert", *files, "--cov", tmp_path / "cov.npy")
    with np.load(tmp_path / "ref.npz") as statistics:
        assert statistics["mu"].dtype == statistics["sigma"].dtype == np.float64
        assert_array_equal(statistics["mu"], mean)
        assert_allclose(statistics["sigma"], covariance)
    with pytest.raises(ValueError, match="reference has features: torchvision"):
        Evaluator.from_file(tmp_path, make_extractor("random"), str(tmp_path / "ref.npz"))
    np.save(tmp_path / "cov.npy", covariance[:, :-1])
    with pytest.raises(ValueError, match=r"\(8, 7\)"):
        original.read_statistics(tmp_path / "mean.npy", tmp_path / "cov.npy")
    np.save(tmp_path / "cov.npy", np.array([{}]))
    with pytest.raises(ValueError, match=r"cov\.npy is damaged, or not a NumPy file"):
        original.read_statistics(tmp_path / "mean.npy", tmp_path / "cov.npy")
