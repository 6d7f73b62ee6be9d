"""Export of runs to safetensors, and import of them."""

import json
import struct

import jax
import numpy as np
import pytest
from forks import run_each
from numpy.testing import assert_array_equal
from safetensors import safe_open
from tiny import tiny_transformer_config

from diffusion_jax.config.experiment import Experiment
from diffusion_jax.importers import safetensors
from diffusion_jax.importers.train_states import make_train_state
from diffusion_jax.importers.workdirs import write_workdir
from diffusion_jax.training.state import init_params
from diffusion_jax.workdir.parameters import load_params
from diffusion_jax.workdir.run_files import load_classes, load_config, save_config


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run with classes, whose raw and EMA parameters differ."""
    workdir = tmp_path_factory.mktemp("safetensors") / "run"
    config = tiny_transformer_config()
    experiment = Experiment.from_config(config)
    model = experiment.model
    params = jax.device_get(jax.jit(lambda: init_params(model, 0, config.data.resolution))())
    averaged = jax.tree.map(lambda x: x + 1, params)
    state = make_train_state(experiment, params, 5, ema_params=averaged)
    names = [f"class {i}" for i in range(config.model.num_classes)]
    write_workdir(workdir, config, state, {}, names)
    return workdir


def test_an_exported_run_is_imported_with_equal_parameters_config_and_classes(run, tmp_path):
    cases = [
        ["--to=safetensors", f"--workdir={run}", f"--out={tmp_path / kind}", f"--params={kind}"]
        for kind in ("ema", "raw")
    ]
    back = tmp_path / "back"
    model = tmp_path / "ema" / safetensors.FILE
    cases.append(["--from=safetensors", f"--model={model}", f"--workdir={back}"])
    cases.append(["--from=safetensors", f"--model={model.parent}", f"--workdir={back}_too"])
    for done in run_each("convert", cases):
        assert done.returncode == 0, done.stderr
    config = load_config(run)
    step, averaged = load_params(run, Experiment.from_config(config), ema=True)
    _, raw = load_params(run, Experiment.from_config(config), ema=False)
    for ema in (True, False):
        imported, params = load_params(back, Experiment.from_config(load_config(back)), ema=ema)
        jax.tree.map(assert_array_equal, params, averaged)
        assert imported == step == 5
    assert load_classes(back) == load_classes(run) != []
    kept = json.loads((back / "config.json").read_text())
    assert kept == json.loads((run / "config.json").read_text())
    # Tensors have the names of the parameters.
    with safe_open(tmp_path / "raw" / safetensors.FILE, framework="numpy") as file:
        assert_array_equal(file.get_tensor("block_0.qkv.kernel"), raw["block_0"]["qkv"]["kernel"])
        assert file.metadata() == {"program": "diffusion_jax", "step": "5"}


def test_mistakes_are_one_line_of_error_and_write_nothing(run, tmp_path):
    config = load_config(run)
    _, params = load_params(run, Experiment.from_config(config))
    params = jax.device_get(params)
    good = tmp_path / "good"
    safetensors.write(good, config, params, step=3, class_names=[])
    whole = (good / safetensors.FILE).read_bytes()

    def changed(name, change):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "config.json").write_bytes((good / "config.json").read_bytes())
        (folder / safetensors.FILE).write_bytes(change)
        return ["--from=safetensors", f"--model={folder / safetensors.FILE}"]

    def header(**tensors):
        text = json.dumps(tensors).encode()
        return struct.pack("<Q", len(text)) + text

    wider = config.copy_and_resolve_references()
    wider.model.width *= 2
    other = tmp_path / "other"
    other.mkdir()
    save_config(wider, other)
    (other / safetensors.FILE).write_bytes(whole)
    cases = [
        (changed("truncated", whole[:-1]), "is damaged, or not a file of safetensors"),
        (changed("short", whole[:100]), "is damaged, or not a file of safetensors"),
        (changed("text", b"no weights at all"), "is damaged, or not a file of safetensors"),
        (changed("huge", struct.pack("<Q", 2**60)), "is damaged, or not a file of safetensors"),
        (changed("empty", header()), "which this network has; "),
        (["--from=safetensors", f"--model={other / safetensors.FILE}"], "does not fit"),
        (
            ["--from=safetensors", f"--model={tmp_path / 'no.safetensors'}"],
            "has no config.json, which belongs beside no.safetensors",
        ),
        (["--to=safetensors", f"--workdir={run}", f"--out={run}"], "--out="),
        (["--from=safetensors"], "--model is missing"),
        (["--to=safetensors", f"--workdir={run}", f"--out={good}"], "already exists"),
        (["--from=safetensors", "--out=x"], "--out belongs to"),
    ]
    before = sorted(tmp_path.iterdir())
    out = f"--workdir={tmp_path / 'out'}"
    given = [arguments if "--to" in arguments[0] else [*arguments, out] for arguments, _ in cases]
    for (_, message), done in zip(cases, run_each("convert", given)):
        assert done.returncode == 1
        assert message in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert sorted(tmp_path.iterdir()) == before
    assert (good / safetensors.FILE).read_bytes() == whole


def test_non_finite_values_are_rejected(run, tmp_path):
    config = load_config(run)
    _, params = load_params(run, Experiment.from_config(config))
    broken = jax.tree.map(lambda x: np.full_like(x, np.nan), jax.device_get(params))
    safetensors.write(tmp_path / "out", config, broken, step=3, class_names=[])
    with pytest.raises(ValueError, match="non-finite"):
        safetensors.read(tmp_path / "out" / safetensors.FILE, Experiment.from_config(config))
