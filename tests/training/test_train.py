"""The whole training program, on eight devices."""

import json
import math
import os
import resource
import shutil
import signal
import sys
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from imagenet_zips import make_zips
from numpy.testing import assert_allclose
from PIL import Image
from tiny import tiny_transformer_config as tiny_config
from tiny import train

from diffusion_jax.config.experiment import Experiment, make_model
from diffusion_jax.data import Description, imagenet
from diffusion_jax.data.cache_writer import CacheWriter
from diffusion_jax.runs import train as training
from diffusion_jax.training import ema as ema_module
from diffusion_jax.training import logging, optimizers
from diffusion_jax.training.checkpoints import Checkpoints
from diffusion_jax.training.logging import Reporter, read_metrics
from diffusion_jax.workdir.parameters import load_params
from diffusion_jax.workdir.run_files import load_classes, load_config

pytestmark = pytest.mark.usefixtures("ordinary_promotion")


def assert_bit_equal(a, b):
    leaves_a, leaves_b = jax.tree.leaves_with_path(a), jax.tree.leaves_with_path(b)
    assert len(leaves_a) == len(leaves_b)
    for (path, x), (_, y) in zip(leaves_a, leaves_b):
        np.testing.assert_array_equal(np.asarray(x), np.asarray(y), err_msg=str(path))


def files(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def finished(tmp_path_factory, ordinary_promotion):
    """(final state, workdir) of six steps without interruption."""
    workdir = tmp_path_factory.mktemp("runs") / "whole"
    return train(tiny_config(), workdir), workdir


def test_the_workdir_describes_the_run(finished):
    state, workdir = finished
    assert int(state.step) == 6
    assert load_config(workdir).to_dict() == tiny_config(model__dtype="float32").to_dict()
    assert load_classes(workdir) == list("0123456789")
    metrics = read_metrics(workdir)
    assert [line["step"] for line in metrics] == [2, 4, 6]
    for name in ("loss", "simple", "vlb", "gradient_norm", "images_per_second", "learning_rate"):
        assert all(np.isfinite(line[name]) and line[name] > 0 for line in metrics)
    assert all(0 <= line["waiting_for_data"] < 1 and line["skipped"] == 0 for line in metrics)
    for picture in ("loss.png", "samples/step_0000006.png"):
        with Image.open(workdir / picture) as image:
            assert np.asarray(image).std() > 0
    assert "Total:" in (workdir / "parameters.txt").read_text()
    (events,) = (workdir / "tensorboard").iterdir()
    assert all(tag in events.read_bytes() for tag in (b"loss", b"learning_rate", b"samples"))
    with Checkpoints(workdir / "checkpoints") as checkpoints:
        assert checkpoints.steps() == [3, 6]


def test_training_changes_all_parameters_and_the_ema(finished):
    state, _ = finished
    start = tiny_config(steps=1)
    model = make_model(start)
    shapes = jax.eval_shape(lambda: state.params)
    assert model is not None
    assert {leaf.dtype.name for leaf in jax.tree.leaves(shapes)} == {"float32"}
    differs = [
        np.any(a != b) for a, b in zip(*map(jax.tree.leaves, (state.params, state.ema_params)))
    ]
    assert all(differs)


def test_resumed_steps_are_bit_identical(finished, tmp_path):
    state, _ = finished
    first = train(tiny_config(steps=3), tmp_path)
    assert int(first.step) == 3
    again = train(tiny_config(steps=6), tmp_path)
    assert_bit_equal(again, state)
    assert [line["step"] for line in read_metrics(tmp_path)] == [2, 3, 4, 6]


def test_sharded_and_replicated_states_share_checkpoints(finished, tmp_path):
    """Sums over the devices are in another order, so results differ slightly."""
    whole, before = jax.device_get(finished)
    train(tiny_config(steps=3, shard_state=True), tmp_path)
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        shapes = [leaf.shape for leaf in jax.tree.leaves(checkpoints.restore(3, whole))]
    assert shapes == [leaf.shape for leaf in jax.tree.leaves(whole)]
    shutil.copytree(tmp_path, tmp_path / "other")
    for shard_state, workdir in ((True, tmp_path), (False, tmp_path / "other")):
        state = jax.device_get(train(tiny_config(shard_state=shard_state), workdir))
        assert int(state.step) == 6
        jax.tree.map(partial(assert_allclose, rtol=1e-4, atol=1e-6), state, whole)
    for name in ("loss", "gradient_norm"):
        split, not_split = (read_metrics(workdir)[0][name] for workdir in (tmp_path, before))
        assert_allclose(split, not_split, rtol=1e-5)


def test_another_batch_size_resumes_at_the_same_image(tmp_path, monkeypatch):
    places = []
    ours = sys.modules["diffusion_jax.runs.train"]
    of_training = ours.training_batches
    monkeypatch.setattr(
        ours,
        "training_batches",
        lambda config, source, start: places.append(start) or of_training(config, source, start),
    )
    no_picture = np.zeros((8, 8, 1), np.uint8)
    monkeypatch.setattr(
        ours,
        "make_sample_grid",
        lambda *_: lambda params: no_picture,
    )
    train(tiny_config(steps=3), tmp_path)
    train(tiny_config(steps=4, batch_size=8), tmp_path)
    assert places == [0, 3 * 16]
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        assert checkpoints.metadata(4)["images_seen"] == 3 * 16 + 8
        assert checkpoints.metadata(4)["data"]["count"] == 1797


def test_an_interrupted_run_resumes_bit_identically(finished, tmp_path, monkeypatch):
    """SIGTERM arrives while the data of the second batch is read."""
    state, _ = finished

    class Interrupting:
        reads = 0

        def __init__(self, source):
            self.source = source
            self.class_names, self.description = source.class_names, source.description
            self.labels = source.labels

        def __len__(self):
            return len(self.source)

        def read(self, indices):
            self.reads += 1
            if self.reads == 2:
                os.kill(os.getpid(), signal.SIGTERM)
            return self.source.read(indices)

    with monkeypatch.context() as patch:
        ours = sys.modules["diffusion_jax.runs.train"]
        open_source = ours.open_source
        patch.setattr(ours, "open_source", lambda c: Interrupting(open_source(c)))
        before = signal.getsignal(signal.SIGTERM)
        stopped = train(tiny_config(), tmp_path)
        assert signal.getsignal(signal.SIGTERM) == before
    assert 0 < int(stopped.step) < 6
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        assert checkpoints.newest() == int(stopped.step)
    assert_bit_equal(train(tiny_config(), tmp_path), state)


def test_a_finished_run_is_not_changed(finished):
    state, workdir = finished
    pictures = files(workdir / "samples")
    assert_bit_equal(train(tiny_config(), workdir), state)
    assert files(workdir / "samples") == pictures
    assert len(read_metrics(workdir)) == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model__width": 16}, "another model .*model.width: 8 -> 16.*another --workdir"),
        ({"schedule__name": "linear"}, "schedule.name: cosine -> linear"),
        ({"original_quirks": True}, "original_quirks: False -> True"),
        ({"batch_size": 12}, "batch_size=12 is not divisible by 8 devices"),
        ({"micro_batches": 4}, "batch_size=16 .* 8 devices times micro_batches=4"),
    ],
)
def test_config_errors_overwrite_nothing(changes, message, finished):
    _, workdir = finished
    before = files(workdir)
    with pytest.raises(ValueError, match=message):
        train(tiny_config(**changes), workdir)
    assert files(workdir) == before


def test_a_checkpoint_of_another_model_is_refused(finished, tmp_path):
    _, workdir = finished
    config = tiny_config(model__width=16)
    with pytest.raises(ValueError, match=r"another model than the config: .* has shape"):
        load_params(workdir, Experiment.from_config(config))
    with pytest.raises(FileNotFoundError, match=r"No checkpoint of step 4 in .*there: 3, 6"):
        load_params(workdir, Experiment.from_config(tiny_config()), checkpoint=4)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        load_params(tmp_path, Experiment.from_config(config))


@pytest.mark.parametrize("item", ["ema_params", "ema_params/manifest.ocdbt", "ema_params/d"])
def test_a_damaged_checkpoint_is_a_one_line_error(finished, tmp_path, item):
    _, workdir = finished
    copy = shutil.copytree(workdir, tmp_path / "run")
    damaged = copy / "checkpoints" / "6" / item
    if damaged.is_dir():
        shutil.rmtree(damaged)
    else:
        damaged.write_bytes(b"")
    with pytest.raises(ValueError, match=r"checkpoints/6 cannot be read \(.*\); name another one"):
        load_params(copy, Experiment.from_config(tiny_config()))
    assert load_params(copy, Experiment.from_config(tiny_config()), checkpoint=3)[0] == 3


def test_clipping_can_be_enabled_on_resume(finished, tmp_path):
    _, workdir = finished
    copy = shutil.copytree(workdir, tmp_path / "run")
    assert int(train(tiny_config(steps=7, optimizer__clip_norm=None), copy).step) == 7


def test_an_unconditional_model_trains(tmp_path):
    config = tiny_config(
        model__num_classes=0, steps=2, sampling__ddim__eta=1.0, loss__kind="simple"
    )
    train(config, tmp_path)
    assert (tmp_path / "samples" / "step_0000002.png").exists()
    assert "label_embedding" not in load_params(tmp_path, Experiment.from_config(config))[1]


def test_checkpoints_hold_raw_and_ema_parameters(finished):
    state, workdir = finished
    step, ema_params = load_params(workdir, Experiment.from_config(tiny_config()))
    assert step == 6
    assert_bit_equal(ema_params, state.ema_params)
    assert_bit_equal(
        load_params(workdir, Experiment.from_config(tiny_config()), ema=False)[1], state.params
    )


def test_keep_latest_and_keep_every(finished, tmp_path):
    state, _ = finished
    with Checkpoints(tmp_path / "c", keep_latest=2, keep_every=4, create=True) as checkpoints:
        for step in range(1, 8):
            checkpoints.save(step, state)
    with Checkpoints(tmp_path / "c") as checkpoints:
        assert checkpoints.steps() == [4, 6, 7]
        assert_bit_equal(checkpoints.restore(7, state).opt_state, state.opt_state)


def test_a_non_finite_loss_stops_the_run(tmp_path):
    config = tiny_config(optimizer__learning_rate=1e30, optimizer__warmup_steps=0, log_every=1)
    with pytest.raises(FloatingPointError, match=r"Not finite at step [2-5]"):
        train(config, tmp_path)
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        assert checkpoints.steps() == []


def test_imagenet_from_tfds(golden, tmp_path):
    """configs/res.py at a small width, on a dataset that tfds has prepared."""
    from configs import res

    config = res.get_config()
    config.data.data_dir = str(golden / "tfds")
    config.data.cache_dir = str(tmp_path / "cache")
    config.model.width = 8
    config.model.levels = 1
    config.model.time_dim = config.model.label_dim = 16
    config.batch_size = 8
    config.steps = 2
    config.sampling.steps = 2
    config.sampling.grid_rows = config.sampling.grid_columns = 2
    train(config, tmp_path)
    assert read_metrics(tmp_path)[-1]["step"] == 2
    assert load_classes(tmp_path)[173] == "tabby"
    assert (tmp_path / "samples" / "step_0000002.png").exists()


def test_imagenet_from_zip_files(tmp_path):
    """The same images without tfds, as `scripts.data` leaves them."""
    make_zips(tmp_path / "zips", npz=True)
    for split in imagenet.COUNTS:
        folder = tmp_path / "data" / "imagenet64" / split
        folder.parent.mkdir(parents=True, exist_ok=True)
        description = Description("imagenet64", split, imagenet.SHAPE, imagenet.class_names())
        parts = imagenet.find_parts(tmp_path / "zips", split)
        with CacheWriter(folder, description, [part.name for part in parts]) as writer:
            for part in parts:
                writer.write(part.name, imagenet.read(part, writer.partial))
            writer.finish()
    config = tiny_config(
        data__name="imagenet64",
        data__split="train",
        data__data_dir=str(tmp_path / "data"),
        data__resolution=64,
        data__flip=True,
        model__channels=3,
        model__num_classes=1000,
        model__patch_size=16,
        batch_size=8,
        steps=2,
        sampling__steps=2,
        sampling__grid_rows=1,
    )
    train(config, tmp_path / "run")
    assert read_metrics(tmp_path / "run")[-1]["step"] == 2
    assert load_classes(tmp_path / "run")[0] == "kit fox"


def test_constant_ema():
    weight = ema_module.constant(0.99)
    assert_allclose(1 - weight(jnp.int32(0)), 0.1, rtol=1e-6)
    assert_allclose(1 - weight(jnp.int32(90)), 0.91, rtol=1e-6)
    assert_allclose(1 - weight(jnp.int32(10_000)), 0.99, rtol=1e-6)
    ema, params = {"a": np.float32(1)}, {"a": np.float32(2)}
    assert_allclose(ema_module.update(ema, params, weight(jnp.int32(0)))["a"], 1.9)


def test_ema_start_copies_the_parameters():
    """MyDiffusionModel copies for 2,000 updates; then the decay is its 0.995."""
    weight = ema_module.constant(0.995, 2000)
    assert_allclose([1 - weight(jnp.int32(n)) for n in (0, 1999, 2000)], [0, 0, 0.995], rtol=1e-6)


def test_half_life_ema():
    """After the ramp-up, the weight halves every h images."""
    weight = ema_module.half_life(100, images=1000.0, rampup=0.05)
    assert_allclose((1 - weight(jnp.int32(10_000))) ** 10, 0.5, rtol=1e-5)
    # 2,000 images seen: a half-life of 100 images, one batch. At first there is nothing to keep.
    assert_allclose([1 - weight(jnp.int32(n)) for n in (0, 20)], [0, 0.5], rtol=1e-5)


def test_power_function_ema_matches_published_decays():
    """Published numbers: gamma, and the decay with batches of 2,048 after n images."""
    assert_allclose(ema_module.gamma_of(0.05), 16.972199, rtol=1e-7)
    assert_allclose(ema_module.gamma_of(0.1), 6.937204, rtol=1e-6)
    weight = ema_module.power(sigma_rel=0.05)
    for images, expected in ((2048, 0), (4096, 3.888921e-6), (2**20, 0.965473838)):
        step = jnp.int32(images // 2048 - 1)
        assert_allclose(weight(step), 1 - expected, rtol=2e-7)
    # It is the mean of all parameters so far, weighed by s^gamma, up to the discretization.
    gamma = ema_module.gamma_of(0.1)
    weight, mean = ema_module.power(sigma_rel=0.1), 0.0
    for step in range(400):
        mean += float(weight(jnp.int32(step))) * (step + 1 - mean)
    s = np.arange(1, 401.0)
    assert_allclose(mean, np.sum(s**gamma * s) / np.sum(s**gamma), rtol=2e-3)


@pytest.mark.parametrize("updates", [1, 2, 1000, 524_288, 10**8])
def test_weights_of_emas_are_exact_after_any_number_of_updates(updates):
    """Against float64; in float32 the decay of half a million updates has two digits of 1 - d."""
    step = jnp.int32(updates - 1)
    for width in (0.05, 0.1, 0.25):
        exponent = ema_module.gamma_of(width) + 1
        wanted = -math.expm1(exponent * math.log1p(-1 / updates)) if updates > 1 else 1
        found = ema_module.power(sigma_rel=width)(step)
        assert_allclose(found, wanted, rtol=1e-6)
    wanted = max(1 - 0.9999, 9 / (9 + updates))
    assert_allclose(ema_module.constant(0.9999)(step), wanted, rtol=1e-6)
    half = min(50e6, 0.05 * 32 * (updates - 1))
    wanted = -math.expm1(-math.log(2) * 32 / half) if half else 1
    assert_allclose(ema_module.half_life(32)(step), wanted, rtol=1e-6)


def test_cosine_learning_rate():
    schedule = optimizers.learning_rate_schedule(1.0, 2000, 10)
    assert_allclose([schedule(0), schedule(5), schedule(10), schedule(1000)], [0, 0.5, 1, 1])
    schedule = optimizers.learning_rate_schedule(1.0, 2000, 10, "cosine", 110)
    assert_allclose([schedule(5), schedule(60), schedule(110)], [0.5, 0.5, 0], atol=1e-6)
    assert_allclose(optimizers.learning_rate_schedule(1.0, 100, 0)(0), 1)
    assert_allclose(optimizers.learning_rate_schedule(1.0, 100, 0, "cosine")(0), 1)
    with pytest.raises(ValueError, match="decay_steps=5 has no effect with decay=constant"):
        optimizers.learning_rate_schedule(1.0, 100, 0, "constant", 5)


def test_a_resumed_run_decays_to_its_new_last_step(tmp_path, capsys):
    """Decay and warm-up follow `steps`; frozen at four steps, the rate would be 0."""
    config = tiny_config(steps=4, optimizer__decay="cosine", optimizer__warmup_steps=1, log_every=1)
    train(config, tmp_path)
    before = load_params(tmp_path, Experiment.from_config(config))[1]
    stored = load_config(tmp_path)
    with stored.unlocked():
        stored.steps = 8
    train(stored, tmp_path)
    after = load_params(tmp_path, Experiment.from_config(stored))[1]
    rates = [line["learning_rate"] for line in read_metrics(tmp_path)]
    of_four = optimizers.learning_rate_schedule(1e-3, 4, 1, "cosine")
    of_eight = optimizers.learning_rate_schedule(1e-3, 8, 1, "cosine")
    expected = [*map(float, map(of_four, range(4))), *map(float, map(of_eight, range(4, 8)))]
    assert_allclose(rates, expected, rtol=1e-5)
    assert min(rates[4:]) > 0
    changed = jax.tree.map(lambda a, b: bool((a != b).any()), before, after)
    assert all(jax.tree.leaves(changed))
    assert "learning rate is 0" not in "".join(capsys.readouterr())
    with stored.unlocked(), stored.ignore_type():
        stored.steps, stored.optimizer.decay_steps = 9, 8
    train(stored, tmp_path)
    assert "learning rate is 0 in all remaining steps" in "".join(capsys.readouterr())
    assert read_metrics(tmp_path)[-1]["learning_rate"] == 0


@pytest.mark.parametrize(
    ("changes", "idle"),
    [
        ({"decay": "cosine", "decay_steps": 4}, 4),
        ({"decay": "linear", "decay_steps": 2}, 6),
        ({"decay": "cosine"}, 0),
        ({"decay": "constant"}, 0),
        ({"decay": "inverse_sqrt", "decay_steps": 4}, 0),
    ],
)
def test_steps_with_a_learning_rate_of_zero_are_logged(changes, idle):
    config = tiny_config(steps=8, optimizer__warmup_steps=1)
    with config.unlocked(), config.ignore_type():
        config.optimizer.update(changes)
    schedule = Experiment.from_config(config).require_training().learning_rate
    rates = optimizers.learning_rates(schedule, 8)
    assert rates.shape == (8,)
    lines = training._idle_steps(config, rates)
    assert len(lines) == bool(idle)
    if idle:
        assert f"the last {idle} steps, from step {9 - idle} to 8" in lines[0]
        assert "all remaining steps" in training._idle_steps(config, rates[8 - idle :])[0]


@pytest.mark.parametrize(("warmup_steps", "ends"), [(7, True), (8, False), (None, True)])
def test_a_warm_up_longer_than_the_run_is_logged(warmup_steps, ends):
    config = tiny_config(steps=8, optimizer__warmup_steps=warmup_steps)
    schedule = Experiment.from_config(config).require_training().learning_rate
    lines = training._idle_steps(config, optimizers.learning_rates(schedule, 8))
    assert len(lines) == (not ends)
    assert ends or "at most 0.000875 in place of 0.001" in lines[0]


def test_a_decay_whose_end_rounds_to_zero_is_not_logged():
    """cos(pi (1 - x)) is -1 in float32 for small x."""
    config = tiny_config(steps=400_000, optimizer__decay="cosine")
    schedule = Experiment.from_config(config).require_training().learning_rate
    rates = optimizers.learning_rates(schedule, 400_000)
    assert rates[-1] == 0
    assert training._idle_steps(config, rates) == []


def test_other_learning_rate_schedules():
    linear = optimizers.learning_rate_schedule(1.0, 110, 10, "linear")
    assert_allclose([linear(5), linear(10), linear(60), linear(200)], [0.5, 1, 0.5, 0], rtol=1e-6)
    # EDM2-S after 2^30 images in batches of 2,048, t_ref 35,000.
    root = optimizers.learning_rate_schedule(0.01, 524_288, 4883, "inverse_sqrt", 35_000)
    assert_allclose(root(2**30 // 2048), 0.002583742, rtol=1e-6)
    assert_allclose([root(4883), root(35_000)], [0.01, 0.01], rtol=1e-6)


def test_clipping_bounds_the_gradient():
    rate = {"learning_rate": 1.0, "total_steps": 10, "warmup_steps": 0, "weight_decay": 0.0}
    rate |= {"decay": "constant", "decay_steps": None}
    optimizer = optimizers.adamw(**rate, b1=0.0, b2=0.0, eps=1.0, clip_norm=0.5)
    params = {"a": np.zeros(2, np.float32)}
    updates, _ = optimizer.update(
        {"a": np.array([3.0, 4.0], np.float32)}, optimizer.init(params), params
    )
    # The clipped gradient g = (0.3, 0.4); Adam without memory moves by -g / (|g| + eps).
    assert_allclose(updates["a"], [-0.3 / 1.3, -0.4 / 1.4], rtol=1e-5)


def test_metrics_after_the_resumed_step_are_removed(tmp_path):
    lines = [{"step": step, "loss": 1.0, "simple": 1.0, "vlb": 1.0} for step in (2, 4, 6)]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (tmp_path / "metrics.jsonl").write_text(text + '{"step": 7, "lo')
    with Reporter(Path(tmp_path), start_step=4, steps=8, batch_size=1, begun=0.0, write=True):
        pass
    assert [line["step"] for line in read_metrics(tmp_path)] == [2, 4]


def test_metrics_lines_are_written_whole_or_not_at_all(tmp_path):
    """A limit on file lengths truncates a write, as a full disk does."""
    path, limits = tmp_path / "metrics.jsonl", resource.getrlimit(resource.RLIMIT_FSIZE)
    logging._append(path, b'{"step": 1}\n')
    resource.setrlimit(resource.RLIMIT_FSIZE, (15, limits[1]))
    try:
        with pytest.raises(OSError, match="No space left"):
            logging._append(path, b'{"step": 2}\n')
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_text() == '{"step": 1}\n'
    logging._append(path, b'{"step": 3}\n')
    assert read_metrics(tmp_path) == [{"step": 1}, {"step": 3}]


def test_the_remaining_time_excludes_compilation(tmp_path):
    options = {"start_step": 0, "steps": 8, "batch_size": 1, "begun": 0.0, "write": True}
    with Reporter(Path(tmp_path), **options) as report:
        bar = report._bar
        bar.start_t = bar.last_print_t = 0.0
        for now in (100.0, 101.0, 102.0, 103.0):  # the first is compiled
            bar._time = partial(float, now)
            report.advance(1.0, 1e-3)
        assert bar.format_dict["elapsed"] == 3.0
        assert bar.n == 4


def test_drop_last_refuses_a_batch_larger_than_the_data(tmp_path):
    config = tiny_config(batch_size=1800, data__drop_last=True)
    with pytest.raises(ValueError, match=r"1797 images are fewer than batch_size=1800"):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
