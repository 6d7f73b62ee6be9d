"""Damaged checkpoints, full disks, and non-finite steps."""

import errno
import json
import os
import shutil
import sys
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reliability import flips
from reliability.runs import results_of
from tiny import tiny_transformer_config as tiny_config
from tiny import train

from diffusion_jax.config import training
from diffusion_jax.config.experiment import Experiment
from diffusion_jax.config.schema import model_section
from diffusion_jax.runs.train import init_train_state
from diffusion_jax.training import checkpoints as checkpoints_module
from diffusion_jax.training import nan_guard
from diffusion_jax.training import restore as restore_module
from diffusion_jax.training.checkpoint_integrity import DamagedCheckpoint, SaveFailed
from diffusion_jax.training.checkpoints import Checkpoints
from diffusion_jax.training.logging import read_metrics
from diffusion_jax.training.restore import restore_newest
from diffusion_jax.training.sharding import jit_once
from diffusion_jax.workdir.parameters import load_params

pytestmark = pytest.mark.usefixtures("ordinary_promotion")
OURS = sys.modules["diffusion_jax.runs.train"]
step_module = sys.modules["diffusion_jax.training.step"]


def equal(one, other):
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, ordinary_promotion):
    """(final state, workdir) of six steps, with checkpoints of steps 3 and 6."""
    workdir = tmp_path_factory.mktemp("runs") / "whole"
    return train(tiny_config(), workdir), workdir


@pytest.fixture
def copy(finished, tmp_path):
    return shutil.copytree(finished[1], tmp_path / "copy")


def spoil(workdir, step=6):
    """Flips a bit in each quarter of each data file of a checkpoint's EMA."""
    folder = workdir / "checkpoints" / str(step) / "ema_params"
    for path in (path for path in folder.rglob("d/*") if path.is_file()):
        for quarter in range(4):
            flips.flip(path, path.stat().st_size * (1 + 2 * quarter))


@pytest.mark.parametrize("item", ["params", "ema_params", "opt_state"])
def test_arrays_of_another_checkpoint_are_damage(item, tmp_path):
    """They have the same shapes, and Orbax reads them without an error."""
    state = flips.small_state()
    changed = jax.tree.map(lambda x: x + np.ones((), x.dtype), getattr(state, item))
    for name, written in (("here", state), ("other", replace(state, **{item: changed}))):
        with Checkpoints(tmp_path / name, create=True) as checkpoints:
            checkpoints.save(5, written)
    shutil.rmtree(tmp_path / "here" / "5" / item)
    shutil.copytree(tmp_path / "other" / "5" / item, tmp_path / "here" / "5" / item)
    refused = pytest.raises(DamagedCheckpoint, match=rf"\(it has no {item}/d/")
    with Checkpoints(tmp_path / "here") as checkpoints, refused:
        checkpoints.restore(5, state)


def test_every_flipped_bit_is_noticed(tmp_path):
    tried, silent = flips.main(24, tmp_path)
    assert (tried, silent) == (24, [])


def test_training_renames_a_damaged_checkpoint_and_uses_the_previous_one(finished, copy, capsys):
    spoil(copy)
    state = train(tiny_config(), copy)
    said = capsys.readouterr().out
    assert "6 is damaged" in said
    assert "was renamed to 6.damaged; resuming from the checkpoint of step 3" in said
    assert equal(state, finished[0])
    assert (copy / "checkpoints" / "6.damaged").is_dir()
    assert results_of(copy) == results_of(finished[1])


def test_if_all_checkpoints_are_damaged_none_is_renamed(copy):
    for step in (3, 6):
        spoil(copy, step)
    expected = r"checkpoints/6 cannot be read \(.*\); nor can any of the 2 there: restore it"
    with pytest.raises(DamagedCheckpoint, match=expected):
        train(tiny_config(), copy)
    assert sorted(path.name for path in (copy / "checkpoints").iterdir()) == ["3", "6"]


def test_sampling_refuses_a_damaged_checkpoint(copy):
    spoil(copy)
    with pytest.raises(DamagedCheckpoint, match=r"6 cannot be read"):
        load_params(copy, Experiment.from_config(tiny_config()), checkpoint=6)


def test_sampling_needs_neither_optimizer_state_nor_raw_parameters(copy, finished):
    for part in ("opt_state", "params"):
        shutil.rmtree(copy / "checkpoints" / "6" / part)
    assert equal(
        load_params(copy, Experiment.from_config(tiny_config()))[1],
        jax.device_get(finished[0].ema_params),
    )


def test_changed_metadata_is_damage(copy):
    """It is still JSON, and a position that the data have."""
    path = copy / "checkpoints" / "6" / "metadata.json"
    metadata = json.loads(path.read_text())
    metadata["images_seen"] += 1
    path.write_text(json.dumps(metadata))
    with (
        Checkpoints(copy / "checkpoints") as checkpoints,
        pytest.raises(DamagedCheckpoint, match=r"metadata\.json does not match its checksum"),
    ):
        checkpoints.metadata(6)


def test_non_finite_states_are_not_saved(finished, tmp_path):
    state = jax.device_get(finished[0])
    spoiled = jax.tree.map(np.array, state.params)
    jax.tree.leaves(spoiled)[3].flat[0] = np.inf
    bad = replace(state, ema_params=spoiled)
    with Checkpoints(tmp_path / "checkpoints", create=True) as checkpoints:
        with pytest.raises(FloatingPointError, match=r"^ema_params/.* is not finite after step 9"):
            checkpoints.save(9, bad)
        assert checkpoints.steps() == []


class Poisoned:
    """Infinite losses in some steps, marked in their batches."""

    def __init__(self, monkeypatch, steps):
        batches, objective = OURS.training_batches, training._make_objective

        def training_batches(config, source, start):
            first = start // config.batch_size + 1
            for number, batch in enumerate(batches(config, source, start), first):
                yield batch | {"bad": np.full(len(batch["label"]), number in steps)}

        def make_objective(*parts):
            of_config = objective(*parts)

            def poisoned(params, batch, *rest):
                parts, noisy = of_config(params, batch, *rest)
                poison = jnp.where(batch["bad"], jnp.float32(np.inf), 0)
                return {name: values + poison for name, values in parts.items()}, noisy

            return poisoned

        monkeypatch.setattr(OURS, "training_batches", training_batches)
        monkeypatch.setattr(training, "_make_objective", make_objective)


def test_non_finite_steps_are_skipped_and_counted(tmp_path, monkeypatch, capsys):
    Poisoned(monkeypatch, steps={3, 4})
    config = tiny_config(log_every=1, checkpoint_every=1)
    state = train(config, tmp_path)
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        before = checkpoints.restore(2, state)
        # Neither in a row of bad steps, nor lost: after the next good one.
        assert not {3, 4} & set(checkpoints.steps())
        after = checkpoints.restore(5, state)
    assert int(after.step) == 5
    # One update more than at step 2, of which AdamW counts each.
    (count,) = {int(x) for x in jax.tree.leaves(after.opt_state) if x.dtype == np.int32}
    assert count == 3
    assert not equal(after.params, before.params)
    lines = {line["step"]: line for line in read_metrics(tmp_path)}
    assert [lines[step]["skipped"] for step in (2, 3, 4, 5)] == [0, 1, 1, 0]
    assert all(np.isfinite(value) for line in lines.values() for value in line.values())
    said = capsys.readouterr().out
    assert "Step 3 is not finite and is skipped: " in said
    assert "loss inf" in said


def test_a_skipped_step_changes_only_the_step_number(tmp_path, monkeypatch):
    Poisoned(monkeypatch, steps={1})
    config = tiny_config(steps=1)
    state = jax.device_get(train(config, tmp_path))
    fresh = jax.device_get(jit_once(lambda: init_train_state(Experiment.from_config(config))))
    assert int(state.step) == 1
    for name in ("params", "ema_params", "opt_state"):
        assert equal(getattr(state, name), getattr(fresh, name))


def test_max_nan_steps_in_a_row_stop_the_run(tmp_path, monkeypatch):
    Poisoned(monkeypatch, steps={4, 5, 6})
    config = tiny_config(steps=9)
    config.optimizer.learning_rate = 0.002
    with pytest.raises(
        FloatingPointError,
        match=r"step 6, 3 in a row: .*loss inf.*rate is 0\.002, .* is of step 3",
    ):
        train(config, tmp_path)
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        assert checkpoints.steps() == [3]


def test_roll_back_resumes_from_the_newest_checkpoint(tmp_path, monkeypatch, capsys):
    Poisoned(monkeypatch, steps={4, 5, 6})
    state = train(tiny_config(steps=9, roll_back=True), tmp_path)
    assert int(state.step) == 9
    assert "Rolled back after step 6 to the checkpoint of step 3" in capsys.readouterr().out


def test_roll_back_past_a_damaged_checkpoint_uses_the_previous_one(tmp_path, monkeypatch, capsys):
    Poisoned(monkeypatch, steps={7, 8, 9, 10, 11, 12})
    restore = nan_guard.restore_newest
    monkeypatch.setattr(
        nan_guard, "restore_newest", lambda *given: spoil(tmp_path) or restore(*given)
    )
    config = tiny_config(steps=15, roll_back=True, checkpoint_every=3)
    with pytest.raises(FloatingPointError, match=r"step 12, 3 in a row: .* is of step 3"):
        train(config, tmp_path)
    said = capsys.readouterr().out
    assert "6 is damaged" in said
    assert "Rolled back after step 9 to the checkpoint of step 3" in said


def test_roll_back_uses_each_checkpoint_once(tmp_path, monkeypatch):
    Poisoned(monkeypatch, steps={4, 5, 6, 7, 8, 9})
    config = tiny_config(steps=12, roll_back=True, checkpoint_every=3)
    with pytest.raises(FloatingPointError, match=r"step 9, 3 in a row: .* is of step 3"):
        train(config, tmp_path)


def spoil_update(monkeypatch, number):
    """Makes the parameters after an update infinite; loss and gradient stay finite."""
    apply = step_module.apply_gradients

    def spoiled(state, *arguments, **options):
        new = apply(state, *arguments, **options)
        bad = state.step == number - 1
        trees = jax.tree.map(lambda x: jnp.where(bad, jnp.inf, x), (new.params, new.ema_params))
        return replace(new, params=trees[0], ema_params=trees[1])

    monkeypatch.setattr(step_module, "apply_gradients", spoiled)


def test_non_finite_parameters_stop_the_run_or_roll_back(tmp_path, monkeypatch, capsys):
    spoil_update(monkeypatch, 5)
    config = tiny_config(steps=8, checkpoint_every=1)
    message = (
        r"step 5: .* is not finite after step 5, which is not saved; the learning rate is .* 4\."
    )
    with pytest.raises(FloatingPointError, match=message):
        train(config, tmp_path / "stops")
    state = train(tiny_config(steps=8, checkpoint_every=1, roll_back=True), tmp_path / "goes_back")
    assert "Rolled back after step 5 to the checkpoint of step 4" in capsys.readouterr().out
    assert int(state.step) == 8
    with Checkpoints(tmp_path / "goes_back" / "checkpoints") as checkpoints:
        assert checkpoints.steps()[-1] == 8


def classifier_config(**changes):
    """A classifier of noisy images; its sample grid shows the accuracy."""
    config = tiny_config(label_dropout=0.0, sampling__guidance=0.0, **changes)
    config.loss.kind = "cross_entropy"
    fields = {"channels": 1, "num_classes": 10, "width": 8, "multipliers": (1,), "blocks": 1}
    fields |= {"attention": (), "num_heads": 1, "head_channels": None}
    config.model = model_section("noisy_classifier", **fields)
    return config


@pytest.mark.parametrize("make_config", [tiny_config, classifier_config])
def test_non_finite_parameters_make_no_sample_grid(tmp_path, monkeypatch, capsys, make_config):
    spoil_update(monkeypatch, 2)
    with pytest.raises(FloatingPointError, match="step 5, 3 in a row"):
        train(make_config(steps=9, checkpoint_every=9, sample_every=1), tmp_path)
    assert "No samples of step 2: " in capsys.readouterr().out
    assert [path.name for path in (tmp_path / "samples").iterdir()] == ["step_0000001.png"]


def test_damaged_orbax_metadata_affects_one_checkpoint(copy):
    (copy / "checkpoints" / "6" / "ema_params" / "_METADATA").write_text("[]")
    with pytest.raises(DamagedCheckpoint, match=r"checkpoints/6 cannot be read"):
        load_params(copy, Experiment.from_config(tiny_config()))
    assert load_params(copy, Experiment.from_config(tiny_config()), checkpoint=3)[0] == 3


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """(folder, state) of the checkpoints of steps 3 and 5 of a small state."""
    folder, state = tmp_path_factory.mktemp("two") / "checkpoints", flips.small_state()
    with Checkpoints(folder, create=True) as checkpoints:
        for step in (3, flips.STEP):
            checkpoints.save(step, state, metadata=flips.METADATA | {"step": step})
    return folder, state


DAMAGES = {
    "empty": lambda content: b"",
    "half": lambda content: content[: len(content) // 2],
    "flipped": lambda content: bytes([255 - content[0], *content[1:]]) if content else b"x",
    "list": lambda content: b"[1]",
    "object": lambda content: b"{}",
    "nested": lambda content: b"[" * 100_000,
    "deleted": None,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_to_any_file_restores_the_previous_checkpoint(two, tmp_path, damage):
    folder, state = two
    for path in (path for path in (folder / str(flips.STEP)).rglob("*") if path.is_file()):
        copied = shutil.copytree(folder, tmp_path / "copy")
        damaged = copied / path.relative_to(folder)
        if damage == "deleted":
            damaged.unlink()
        else:
            damaged.write_bytes(DAMAGES[damage](path.read_bytes()))
        with Checkpoints(copied, create=True) as checkpoints:
            found, metadata, lines = restore_newest(checkpoints, state)
            assert checkpoints.steps() == [3]
        assert "5 is damaged" in lines[0]
        assert (copied / "5.damaged").is_dir()
        assert metadata == flips.METADATA | {"step": 3}
        assert equal(replace(found, step=state.step), state)
        shutil.rmtree(copied)


def test_two_checkpoints_damaged_in_different_ways(two, tmp_path):
    folder, state = two
    copied = shutil.copytree(folder, tmp_path / "copy")
    shutil.copytree(copied / "3", copied / "2")
    (copied / "3" / "params" / "_METADATA").write_text("[1]")
    (copied / "5" / "checksums.json").write_text("{}")
    with Checkpoints(copied, create=True) as checkpoints:
        assert int(restore_newest(checkpoints, state)[0].step) == 2
        assert checkpoints.steps() == [2]
        checkpoints.save(7, state)
    assert {path.name for path in copied.iterdir()} == {"2", "3.damaged", "5.damaged", "7"}


UNREADABLE = "/proc/self/mem"  # reading its first byte is an input/output error


def test_transient_read_errors_are_retried(two, tmp_path, monkeypatch):
    folder, state = two
    copied = shutil.copytree(folder, tmp_path / "copy")
    path = copied / "5" / "checksums.json"
    content, pauses = path.read_bytes(), []

    def mended(seconds):
        pauses.append(seconds)
        if len(pauses) == 4:
            path.unlink()
            path.write_bytes(content)

    monkeypatch.setattr(restore_module.time, "sleep", mended)
    path.unlink()
    path.symlink_to(UNREADABLE)
    with Checkpoints(copied) as checkpoints:
        found, _, lines = restore_newest(checkpoints, state)
    assert (int(found.step), lines) == (5, [])
    assert pauses == [0, 0, 1, 5]


@pytest.mark.parametrize("kind", ["pipe", "device"])
@pytest.mark.parametrize("name", ["metadata.json", "ema_params/manifest.ocdbt"])
def test_pipes_and_devices_are_damage(two, tmp_path, kind, name):
    folder, state = two
    copied = shutil.copytree(folder, tmp_path / "copy")
    path = copied / "5" / name
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    with Checkpoints(copied) as checkpoints:
        found, _, lines = restore_newest(checkpoints, state)
    assert int(found.step) == 3
    assert f"({name} is not an ordinary file)" in lines[0]


def test_a_file_in_place_of_the_checkpoint_folder_is_refused(tmp_path):
    (tmp_path / "checkpoints").write_text("")
    with pytest.raises(ValueError, match=r"checkpoints is a file, and a folder was expected"):
        train(tiny_config(), tmp_path)


def test_a_run_without_its_checkpoints_starts_from_the_beginning_and_reports_it(copy, capsys):
    shutil.rmtree(copy / "checkpoints")
    train(tiny_config(steps=1), copy)
    assert "no checkpoint in" in capsys.readouterr().out


def test_permanent_read_errors_are_damage(two, tmp_path, monkeypatch):
    folder, state = two
    copied, pauses = shutil.copytree(folder, tmp_path / "copy"), []
    path = copied / "5" / "checksums.json"
    monkeypatch.setattr(restore_module.time, "sleep", pauses.append)
    path.unlink()
    path.symlink_to(UNREADABLE)
    with Checkpoints(copied) as checkpoints:
        found, _, lines = restore_newest(checkpoints, state)
    assert int(found.step) == 3
    assert "5.damaged" in lines[0]
    assert pauses == [0, 0, 1, 5, 20, 0]


def test_missing_permissions_are_not_damage(two, tmp_path, monkeypatch):
    """The tests may be run by root, who may read everything: the system's answer is made here."""
    folder, state = two
    copied = shutil.copytree(folder, tmp_path / "copy")
    refused = copied / "5" / "checksums.json"
    refused.write_text("{}")

    open_path = Path.open

    def protected(path, *rest, **options):
        if path == refused:
            raise PermissionError(errno.EACCES, "Permission denied")
        return open_path(path, *rest, **options)

    monkeypatch.setattr(Path, "open", protected)
    with (
        Checkpoints(copied) as checkpoints,
        pytest.raises(PermissionError, match=r"copy/5 may not be read: .*\(chmod\)"),
    ):
        restore_newest(checkpoints, state)
    assert (copied / "5").is_dir()


def test_a_full_disk_fails_before_the_write(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(
        checkpoints_module.shutil, "disk_usage", lambda path: usage(10**9, 10**9, 1000)
    )
    with pytest.raises(SaveFailed, match=r"checkpoints/3 could not be .* free\); .* is none\."):
        train(tiny_config(), tmp_path)


def test_a_failed_write_stops_the_run_within_a_few_steps(tmp_path, monkeypatch):
    done = []
    write = checkpoints_module.ocp.Checkpointer.save

    def full(checkpointer, path, **options):
        if path.parent.name.startswith("4"):
            raise OSError(28, "No space left on device")
        write(checkpointer, path, **options)

    shard = OURS.parallel.shard
    monkeypatch.setattr(OURS.parallel, "shard", lambda rows: done.append(1) or shard(rows))
    monkeypatch.setattr(checkpoints_module.ocp.Checkpointer, "save", full)
    with pytest.raises(SaveFailed, match=r"checkpoints/4 could not be written \(.*No space left"):
        train(tiny_config(steps=5000, checkpoint_every=4, sample_every=5000), tmp_path)
    assert len(done) < 100


def test_failed_writes_of_grids_and_curves_only_warn(tmp_path, monkeypatch, capsys):
    def full(path, picture):
        raise OSError(28, "No space left on device", os.fspath(path))

    monkeypatch.setattr("diffusion_jax.images.save_png", full)
    assert int(train(tiny_config(), tmp_path).step) == 6
    said = capsys.readouterr().out
    assert (
        f"Warning: sample grids of {tmp_path} cannot be written (No space left on device)" in said
    )
