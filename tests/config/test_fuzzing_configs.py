"""Configs at random: each is refused in one line before any work, or makes a finite step."""

import jax
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st
from PIL import Image
from table_cases import SMALL_NETWORKS
from tiny import tiny_config, train

from diffusion_jax import parallel
from diffusion_jax.config.experiment import Experiment, make_model
from diffusion_jax.config.schema import flatten, model_section
from diffusion_jax.data import crops
from diffusion_jax.diffusion.losses import LOSSES
from diffusion_jax.diffusion.parameterizations import PARAMETERIZATIONS
from diffusion_jax.diffusion.schedules import SCHEDULES
from diffusion_jax.diffusion.timestep_samplers import TIMESTEP_SAMPLERS
from diffusion_jax.diffusion.weights import WEIGHTS
from diffusion_jax.generation.sampler import Sampler
from diffusion_jax.models.layers.block_chain import BLOCKS
from diffusion_jax.runs import datasets
from diffusion_jax.runs.datasets import resolve_num_classes
from diffusion_jax.runs.train import make_sharding, parallel_step
from diffusion_jax.sampling import SOLVERS, SPACINGS
from diffusion_jax.training.ema import EMA_WEIGHTS
from diffusion_jax.training.metrics import means
from diffusion_jax.training.state import init_state

pytestmark = pytest.mark.usefixtures("ordinary_promotion")

NAMES = {
    "parameterization.name": [*PARAMETERIZATIONS],
    "schedule.name": [*SCHEDULES],
    "loss.kind": [*LOSSES],
    "loss.weight": [*WEIGHTS],
    "loss.error": ["squared", "absolute"],
    "timesteps.name": [*TIMESTEP_SAMPLERS],
    "sampling.solver": [*SOLVERS],
    "sampling.spacing": ["auto", *SPACINGS],
    "ema.name": [*EMA_WEIGHTS],
    "original_quirks": [False, True],
}
# Sizes of what is computed: other numbers would only take long.
BOUNDED = ("steps", "batch_size", "width", "depth", "levels", "growth", "resolution", "dim", "rows")
BOUNDED += ("columns", "blocks", "multiple", "expansion")


def values_for(name: str, value):
    """Values of the same type, among them some that can't be right."""
    if name in NAMES:
        return st.sampled_from([*NAMES[name], "no such name"])
    if isinstance(value, bool):
        return st.booleans()
    if isinstance(value, int):
        few = [-1, 0, 1, 2, 3, 4, 8, 12]
        large = [] if name.endswith(BOUNDED) else [1000, 2**31, 2**63]
        return st.sampled_from([*few, *large])
    if isinstance(value, tuple):
        values = [(), (1,), (1, 2), (0.5, 1), (8, 4), (4,), (0,), (-1,), (np.nan,), ("x",), (True,)]
        return st.sampled_from(values)
    if isinstance(value, float):
        return st.sampled_from([-1.0, 0.0, 1e-30, 0.1, 0.5, 1.0, 3.0, 1e30, np.inf, np.nan])
    return st.sampled_from(["", "x", "1", "1,2", "4", "-1", "0.5", "original", "\x1b[31m", "8,4"])


@st.composite
def configs(draw):
    """A small network with all that is chosen by name, and a few fields changed at random."""
    config = tiny_config()
    name = draw(st.sampled_from(["unet", "unet", *sorted(SMALL_NETWORKS)]))
    with config.unlocked(), config.ignore_type():
        config.model = model_section(name, channels=1, num_classes=10, **SMALL_NETWORKS[name])
        if name == "unet":
            others = st.lists(st.sampled_from(sorted(BLOCKS)), max_size=2)
            first = draw(st.sampled_from(["res", "conv", *BLOCKS]))
            config.model.blocks = ",".join([first, *draw(others)])
        changes = {"loss.kind": "cross_entropy" if name == "noisy_classifier" else "simple"}
        for field in draw(st.lists(st.sampled_from(sorted(NAMES)), unique=True, max_size=5)):
            changes[field] = draw(st.sampled_from(NAMES[field]))
        known = {k: v for k, v in flatten(config).items() if not k.startswith("data.")}
        for field in draw(st.lists(st.sampled_from(sorted(known)), unique=True, max_size=4)):
            if field not in ("model.name", "init_from") and "sampling.auto" not in field:
                changes[field] = draw(values_for(field, known[field]))
        config.update_from_flattened_dict(changes)
    note(changes)
    return config


# Values of `data`, among them some that can't be right. FOLDER has images of many kinds.
DATA = {
    "data.name": ["digits", "folder:FOLDER", "folder:FOLDER/cat", "folder:FOLDER/nowhere"],
    "data.split": ["all", "train", "heldout", "no such split"],
    "data.resolution": [8, 8, 16, 4, 7, 1, 0, -1],
    "data.crop": [*crops.KNOWN, "no such name"],
    "data.shorter_side": [None, 1, 8, 20, -1],
    "data.smallest_crop": [0.8, 1.0, 1e-30, 0.0, 1.5, np.nan],
    "data.flip": [True, False],
    "data.drop_last": [True, False],
    "data.load_into_memory": [True, False],
    "data.threads": [1, 2, 0],
    "data.include": [None, "*.png", "*cat*", "nothing*", ",", "["],
    "data.exclude": [None, "*broken*", "*", "cat/*,dog/*"],
    "data.labels": ["auto", "folders", "parents", "none", "no such name"],
    "data.holdout": [None, "0.5", "0.1", "1", "0", "-1", "nan", "1e999", "*cat*", "*", ","],
    "data.convert": [True, False],
    "data.upright": [True, False],
    "data.skip_broken": [True, False],
    "model.num_classes": [10, 2, 1, 0, None],
    "model.channels": [1, 3, 2],
    "batch_size": [8, 16, 64],
}
# Fields for a folder of these images; most are left at their values.
OF_FOLDERS = {
    "data.name": "folder:FOLDER",
    "data.convert": True,
    "data.skip_broken": True,
    "model.num_classes": None,
    "model.channels": 3,
    "batch_size": 8,
}


@st.composite
def configs_of_data(draw):
    """A small network, the digits or a folder of images, and a few fields of `data` at random."""
    config = tiny_config(batch_size=8, loss__kind="simple")
    name = draw(st.sampled_from(["dit", "unet", "plain_unet"]))
    with config.unlocked(), config.ignore_type():
        config.model = model_section(name, channels=1, num_classes=10, **SMALL_NETWORKS[name])
        if name == "unet":
            config.model.blocks = "res"
        changes = dict(OF_FOLDERS) if draw(st.integers(0, 3)) else {}
        for field in draw(
            st.lists(st.sampled_from(sorted(DATA)), unique=True, min_size=1, max_size=5)
        ):
            changes[field] = draw(st.sampled_from(DATA[field]))
        config.update_from_flattened_dict(changes)
    note(changes)
    return config


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Images of two classes: of many sizes and modes, one turned, one damaged."""
    root = tmp_path_factory.mktemp("images")
    generator = np.random.default_rng(0)
    for number, (wide, high) in enumerate([(8, 8), (30, 12), (9, 40), (64, 64), (1, 1), (5, 7)]):
        for label, mode in (("cat", "RGB"), ("dog", ("L", "RGBA", "P", "RGB")[number % 4])):
            pixels = generator.integers(256, size=(high, wide, 3), dtype=np.uint8)
            (root / label).mkdir(exist_ok=True)
            Image.fromarray(pixels).convert(mode).save(root / label / f"{number}.png")
    turned = Image.Exif()
    turned[274] = 6
    Image.new("RGB", (20, 10)).save(root / "cat" / "turned.jpg", exif=turned)
    (root / "dog" / "broken.png").write_bytes((root / "dog" / "0.png").read_bytes()[:40])
    return root


def opened(config, folder, cache):
    """(resolved config, source) as training opens it; None if it is refused in a line."""
    with config.unlocked():
        config.data.name = config.data.name.replace("FOLDER", str(folder))
        config.data.cache_dir = config.data.data_dir = str(cache)
    try:
        config = resolve_num_classes(config)
        Experiment.from_config(config)
        parallel.check_batch_size(config.batch_size, config.micro_batches)
        source = datasets.open_source(config)
    except (ValueError, FileNotFoundError) as error:
        message = str(error)
    else:
        return config, source
    assert message
    assert "\n" not in message
    return None


def check_batches(config, source):
    """The first batch, and one of a later epoch, agree with the config."""
    side, channels = config.data.resolution, config.model.channels
    for start in (0, 2 * len(source) + 1):
        stream = datasets.training_batches(config, source, start)
        batch = next(stream)
        stream.close()
        assert batch["image"].shape == (config.batch_size, side, side, channels)
        assert batch["image"].dtype == np.uint8
        assert batch["label"].shape == (config.batch_size,)
        assert batch["label"].min() >= 0
        assert batch["label"].max() < max(config.model.num_classes, len(source.class_names), 1)
    ends = datasets.read_images(config, source, np.array([0, len(source) - 1]))
    assert ends.shape == (2, side, side, channels)


def refused(config) -> bool:
    """True if the config is refused, in one printable line."""
    try:
        Experiment.from_config(config)
        parallel.check_batch_size(config.batch_size, config.micro_batches)
    except ValueError as error:
        message = str(error)
    else:
        return False
    assert message
    assert "\n" not in message
    return True


def batch_of(config) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    side = config.data.resolution
    shape = (config.batch_size, side, side, config.model.channels)
    images = generator.integers(256, size=shape, dtype=np.uint8)
    labels = generator.integers(max(config.model.num_classes, 1), size=config.batch_size)
    return parallel.shard({"image": images, "label": labels.astype(np.int32)})


def fresh(config):
    history = Experiment.from_config(config).training.timestep_sampler.init()
    second = Experiment.from_config(config).training.second_ema_weight is not None
    model, optimizer = make_model(config), Experiment.from_config(config).training.optimizer
    return init_state(
        model, optimizer, config.seed, config.data.resolution, history, second_ema=second
    )


# Without a search for the smallest of those that fail: each takes seconds.
AT_RANDOM = {"deadline": None, "derandomize": True, "phases": [Phase.generate]}
AT_RANDOM |= {"suppress_health_check": [*HealthCheck], "report_multiple_bugs": False}


@settings(max_examples=25, **AT_RANDOM)
@given(configs())
def test_a_config_is_refused_in_a_line_or_has_a_step(config):
    if refused(config):
        return
    state = jax.eval_shape(lambda: fresh(config))
    step = parallel_step(
        Experiment.from_config(config), make_sharding(Experiment.from_config(config))
    )
    new, metrics = jax.eval_shape(step, state, batch_of(config))
    assert jax.tree.structure(new) == jax.tree.structure(state)
    assert "loss" in metrics


@pytest.mark.long
@settings(max_examples=150, **AT_RANDOM)
@given(configs())
def test_a_config_is_refused_in_a_line_or_its_step_and_its_images_are_finite(config):
    if refused(config):
        return
    state = parallel.replicate(jax.jit(lambda: fresh(config))())
    step = parallel_step(
        Experiment.from_config(config), make_sharding(Experiment.from_config(config))
    )
    state, metrics = step(state, batch_of(config))
    metrics = means(metrics)
    assert metrics["skipped"] == 0
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(jax.device_get(state)))
    if not make_model(config).classifies:
        generator = Sampler.from_experiment(Experiment.from_config(config), batch_size=8)
        labels = np.arange(8, dtype=np.int32) % max(config.model.num_classes, 1)
        images, _ = generator(state.ema_params, labels, seed=0)
        assert np.isfinite(images).all()


@settings(max_examples=60, **AT_RANDOM)
@given(config=configs_of_data())
def test_data_are_refused_in_a_line_or_have_batches(folder, tmp_path_factory, config):
    if found := opened(config, folder, tmp_path_factory.mktemp("cache")):
        check_batches(*found)


@pytest.mark.long
@settings(max_examples=100, **AT_RANDOM)
@given(config=configs_of_data())
def test_data_are_refused_in_a_line_or_trained_on(folder, tmp_path_factory, config):
    """With pictures. What was compiled is forgotten: all of it would take 10 GB."""
    jax.clear_caches()
    if (found := opened(config, folder, tmp_path_factory.mktemp("cache"))) is None:
        return
    config, source = found
    check_batches(config, source)
    with config.unlocked():
        config.steps = 2
    workdir = tmp_path_factory.mktemp("run")
    assert int(train(config, workdir).step) == 2
    assert [path.name for path in (workdir / "samples").iterdir()]
