"""ADM's U-Net against OpenAI's own, and the files of the programs that have it."""

import json
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from forks import run_each
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from tiny import train

from configs import (
    adm64,
    adm64_classifier,
    adm128,
    adm256,
    adm512,
    emnist_digits,
    emnist_letters,
    iddpm64,
)
from diffusion_jax.config.experiment import Experiment, make_model
from diffusion_jax.files import torch_writer
from diffusion_jax.importers.imported_model import with_settings
from diffusion_jax.importers.programs import PROGRAMS
from diffusion_jax.models import ADM
from diffusion_jax.models.layers.adm_blocks import SelfAttention, split_heads
from diffusion_jax.training.state import param_shapes
from diffusion_jax.workdir.run_files import load_classes

sys.path.append("tests/golden")
from make_adm import NICE_LABELS, weights_of

SMALL = {"width": 32, "blocks": 1, "attention": (8,), "multipliers": (1, 2), "head_channels": 16}
# The networks of make_adm.py in our words.
NETWORKS = {
    "new": SMALL | {"num_classes": 5, "qkv_order": "new"},
    "legacy": SMALL
    | {"blocks": 2, "attention": (16, 8), "multipliers": (1, 1), "learn_variance": False}
    | {"head_channels": None, "num_heads": 4, "num_classes": 0, "qkv_order": "legacy"},
    "improved": SMALL
    | {"attention": (4,), "multipliers": (1, 2, 2), "head_channels": None, "num_heads": 2}
    | {"scale_shift": False, "resample_blocks": False, "num_classes": 0, "qkv_order": "legacy"},
    "super": SMALL
    | {"multipliers": (1, 1), "head_channels": 32, "num_classes": 5, "low_resolution": 8},
}


def config_of(fields, module=adm64):
    settings = {"data.resolution": 16, "model.dropout": 0.0}
    if not fields.get("learn_variance", True):
        settings["loss.kind"] = "simple"
    config = with_settings(module.get_config(), settings)
    return with_settings(config, {f"model.{name}": value for name, value in fields.items()})


def parameters(config):
    shapes = param_shapes(make_model(config), config.data.resolution)
    return sum(leaf.size for leaf in jax.tree.leaves(shapes))


def test_parameters_of_the_published_networks():
    """The counts of the authors' PyTorch modules."""
    assert parameters(adm64.get_config()) == 295_904_454
    assert parameters(adm128.get_config()) == 421_529_606
    assert parameters(adm256.get_config()) == 552_814_086
    with_classes = with_settings(adm256.get_config(), {"model.num_classes": 1000})
    assert parameters(with_classes) == 553_838_086
    assert parameters(adm512.get_config()) == 558_997_638
    assert parameters(emnist_letters.get_config()) == 17_989_442
    assert parameters(emnist_digits.get_config()) == 17_985_346
    assert parameters(iddpm64.get_config()) == 121_063_942
    more = {"model.num_classes": 1000, "model.width": 192}
    assert parameters(with_settings(iddpm64.get_config(), more)) == 273_049_350
    large = {"data.resolution": 512, "model.low_resolution": 128, "model.learned_null": False}
    large |= {
        "model.multipliers": (1, 1, 2, 2, 4, 4),
        "model.attention": (32, 16),
        "model.blocks": 2,
    }
    assert parameters(with_settings(adm64.get_config(), large)) == 308_835_270


@pytest.fixture(scope="module")
def arrays():
    with np.load("tests/golden/adm.npz") as data:
        return {name: data[name] for name in data.files}


@pytest.mark.parametrize("name", NETWORKS)
def test_an_imported_network_equals_openai_s(arrays, tmp_path, name):
    shapes = json.loads(str(arrays[f"{name}_shapes"]))
    state = {key: weights_of(key, shape) for key, shape in shapes}
    torch_writer.write(tmp_path / "model.pt", state)
    config = config_of(NETWORKS[name])
    imported = PROGRAMS["openai"].read(tmp_path / "model.pt", config)
    assert with_settings(config, imported.settings).model == config.model
    model = make_model(config)
    labels = jnp.asarray(arrays["labels"], jnp.int32) if model.num_classes else None
    condition = (
        {"label": labels, "image": jnp.asarray(arrays["small"])} if name == "super" else labels
    )
    run = jax.jit(lambda x, t: model.apply({"params": imported.params}, x, t, condition))
    output = run(jnp.asarray(arrays["x"]), jnp.asarray(arrays["t"], jnp.float32))
    assert_allclose(output.estimate, arrays[f"{name}_y"][..., :3], atol=2e-5)
    if model.learn_variance:
        assert_allclose(2 * output.variance_fraction - 1, arrays[f"{name}_y"][..., 3:], atol=2e-5)


def heads_of(model):
    """Attention heads of the blocks, by name."""
    found = {}

    def watch(call, arguments, options, context):
        if isinstance(context.module, SelfAttention):
            found[context.module.name] = context.module.heads
        return call(*arguments, **options)

    with nn.intercept_methods(watch):
        param_shapes(model, 16)
    return found


def test_heads_on_the_way_up_may_differ():
    """num_heads_upsample of guided-diffusion; the parameters are the same."""
    fields = SMALL | {"head_channels": None, "num_heads": 4, "attention": (16, 8)}
    names = {"down_0_0": 4, "down_1_0": 4, "middle_1": 4}
    up = dict.fromkeys(["up_1_0", "up_1_1", "up_0_0", "up_0_1"])
    for given, heads in ((None, 4), (2, 2), (8, 8)):
        model = make_model(config_of(fields | {"num_heads_upsample": given}))
        wanted = names | dict.fromkeys(up, heads)
        assert heads_of(model) == {f"{name}_attention": n for name, n in wanted.items()}
    for changes, message in (
        ({"num_heads_upsample": 5}, "model.num_heads_upsample=5 does not divide the 32"),
        ({"num_heads_upsample": 2, "head_channels": 16}, "no effect with model.head_channels=16"),
    ):
        with pytest.raises(ValueError, match=message):
            Experiment.from_config(config_of(fields | changes))


@pytest.mark.parametrize(("pool", "multipliers"), [("attention", (1, 2)), ("adaptive", (1, 1))])
def test_an_imported_classifier_equals_openai_s(arrays, tmp_path, pool, multipliers):
    shapes = json.loads(str(arrays[f"{pool}_shapes"]))
    state = {key: weights_of(key, shape) for key, shape in shapes}
    torch_writer.write(tmp_path / "model.pt", state)
    fields = {"blocks": 1, "multipliers": multipliers, "attention": (8,), "head_channels": 16}
    fields |= {"pool": "mean" if pool == "adaptive" else pool}
    config = config_of(fields, adm64_classifier)
    imported = PROGRAMS["openai"].read(tmp_path / "model.pt", config)
    model = make_model(with_settings(config, imported.settings))
    params = imported.params
    x, t = jnp.asarray(arrays["x"]), jnp.asarray(arrays["t"], jnp.float32)
    logits = jax.jit(lambda x, t: model.apply({"params": params}, x, t))(x, t)
    assert_allclose(logits, arrays[f"{pool}_y"], atol=2e-5)
    config.model.pool = "mean" if pool == "attention" else "attention"
    with pytest.raises(ValueError, match=r"model\.pt has no out"):
        PROGRAMS["openai"].read(tmp_path / "model.pt", config)


def test_orders_of_queries_keys_and_values_by_hand():
    """Head, part and depth of channel c, by hand: two heads of depth 3."""
    qkv = jnp.arange(18.0).reshape(1, 1, 18)
    for order, second_key_of_head_1 in (("legacy", 9 + 3 + 1), ("new", 6 + 3 + 1)):
        assert split_heads(qkv, 2, order)[1][0, 1, 0, 1] == second_key_of_head_1
    assert split_heads(qkv, 2, "interleaved")[1][0, 1, 0, 1] == (3 + 1) * 3 + 1


def test_an_imported_nice_diffusion_network_equals_its_program(arrays, tmp_path):
    """Its own names, and the null class in the first row, not the last."""
    config = config_of(NETWORKS["new"] | {"channels": 3, "learned_null": True}, emnist_letters)
    state = {key: weights_of(key, shape) for key, shape in json.loads(str(arrays["nice_shapes"]))}
    torch_writer.write(tmp_path / "model.pt", state)
    imported = PROGRAMS["nice-diffusion"].read(tmp_path / "model.pt", config)
    assert imported.notes == ("its class 0 is the null class, and its class i is i - 1 here.",)
    assert imported.settings["model.num_classes"] == 5
    table = imported.params["label_embedding"]["table"]
    assert_array_equal(table[-1], state["class_embedding.weight"][0])
    assert_array_equal(table[0], state["class_embedding.weight"][1])
    model = make_model(config)
    x, t = jnp.asarray(arrays["x"]), jnp.asarray(arrays["t"], jnp.float32)

    def run(labels):
        return jax.jit(model.apply)({"params": imported.params}, x, t, labels)

    null = 5
    output = run(jnp.array([label - 1 if label else null for label in NICE_LABELS]))
    assert_allclose(output.estimate, arrays["nice_y"][..., :3], atol=2e-5)
    assert_allclose(2 * output.variance_fraction - 1, arrays["nice_y"][..., 3:], atol=2e-5)
    config.model.direct_variance = True  # its variance "learned": log sigma^2 itself
    model = make_model(config)
    output = run(jnp.array([label - 1 if label else null for label in NICE_LABELS]))
    assert output.variance_fraction is None
    assert_allclose(output.log_variance, arrays["nice_y"][..., 3:], atol=2e-5)


def test_the_emnist_letters_config_trains_on_files_of_tfds(golden, tmp_path, ordinary_promotion):
    """Two steps of configs/emnist_letters.py, shrunk, and a grid of samples."""
    config = emnist_letters.get_config()
    small = {"width": 8, "multipliers": (1,), "blocks": 1, "attention": (), "num_heads": 1}
    changes = {f"model.{name}": value for name, value in small.items()} | {
        **{"data.data_dir": str(golden / "tfds"), "data.cache_dir": str(tmp_path / "cache")},
        **{"batch_size": 8, "steps": 2, "sample_every": 2, "checkpoint_every": 2},
        **{"sampling.steps": 2, "sampling.grid_rows": 2, "sampling.grid_columns": 4},
    }
    config = with_settings(config, changes)
    Experiment.from_config(config)
    assert train(config, tmp_path / "run").step == 2
    (grid,) = (tmp_path / "run" / "samples").glob("*.png")
    with Image.open(grid) as picture:
        assert np.asarray(picture).std() > 0
    assert load_classes(tmp_path / "run")[:3] == ["A", "B", "C"]


def test_super_resolution_is_conditioned_on_images_of_pixel_means():
    model = ADM(3, 0, **{n: v for n, v in NETWORKS["super"].items() if n != "num_classes"})
    x0 = jnp.arange(2 * 16 * 16 * 3.0).reshape(2, 16, 16, 3)
    condition = model.training_condition(x0, jnp.zeros(2, jnp.int32))
    assert condition["label"] is None
    assert_allclose(condition["image"][1, 2, 3], x0[1, 4:6, 6:8].mean((0, 1)))
    assert model.null_condition(condition)["image"] is condition["image"]
    with pytest.raises(ValueError, match=r"enlarges images of 8x8: use `scripts\.edit enlarge"):
        jax.eval_shape(lambda: model.init(jax.random.key(0), x0, jnp.ones(2)))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"attention": (5,)}, "which is not the side of a level: 16, 8"),
        ({"attention": ("x",)}, "must be positive whole numbers such as"),
        ({"multipliers": (1, 2, 2, 2, 2, 2)}, "resolution=16 is not divisible by 32"),
        ({"multipliers": ()}, "has no level"),
        (
            {"multipliers": (0.3, 1)},
            r"width=32 times model.multipliers=\(0.3, 1\) must be whole numbers",
        ),
        ({"multipliers": (1, -2)}, "must be positive numbers such as"),
        ({"multipliers": (1, float("inf"))}, "must be positive numbers such as"),
        ({"attention": (7.5,)}, "must be positive whole numbers such as"),
        ({"qkv_order": "old"}, "must be one of legacy, new, interleaved"),
        ({"head_channels": 48}, "does not divide the 64 channels"),
        ({"width": 40}, "cannot be cut into groups"),
        ({"multipliers": (1.5, 3), "smallest_group": 4}, "144 channels, of a level or of two"),
    ],
)
def test_fields_that_do_not_fit_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        ADM(3, 0, **SMALL | fields).check(16)


def test_mistakes_are_one_line_and_write_nothing(arrays, tmp_path):
    state = {key: weights_of(key, s) for key, s in json.loads(str(arrays["new_shapes"]))}
    torch_writer.write(tmp_path / "good.pt", state)
    whole = (tmp_path / "good.pt").read_bytes()
    (tmp_path / "cut.pt").write_bytes(whole[: len(whole) // 2])
    torch_writer.write(tmp_path / "more.pt", state | {"extra.bias": np.ones(2, np.float32)})
    thin = state | {"time_embed.0.weight": np.ones((28, 7), np.float32)}
    torch_writer.write(tmp_path / "thin.pt", thin)
    few = {name: array for name, array in state.items() if name != "out.0.bias"}
    torch_writer.write(tmp_path / "few.pt", few)
    config = "--config=configs/adm64.py"
    small = [f"--config.model.{name}={value}" for name, value in NETWORKS["new"].items()]
    small = [config, "--config.data.resolution=16", *small]
    cases = [
        (["--from=openai", *small, f"--model={tmp_path / 'cut.pt'}"], "is damaged"),
        (["--from=openai", *small, f"--model={tmp_path / 'more.pt'}"], "has a extra.bias"),
        (["--from=openai", *small, f"--model={tmp_path / 'few.pt'}"], "has no out.0.bias"),
        (["--from=openai", config, f"--model={tmp_path / 'thin.pt'}"], "does not fit the config"),
        (
            [
                "--from=openai",
                *small,
                "--config.data.resolution=32",
                f"--model={tmp_path / 'good.pt'}",
            ],
            "model.attention=(8,) has 8, which is not the side",
        ),
        (
            ["--from=openai", config, f"--model={tmp_path / 'good.pt'}"],
            "does not fit the config: model.head_channels=64 does not divide the 96 channels",
        ),
        (
            ["--from=openai", *small, "--config.model.width=64", f"--model={tmp_path / 'good.pt'}"],
            "model.width=64 was given, but",
        ),
        (
            ["--from=nice-diffusion", *small, f"--model={tmp_path / 'good.pt'}"],
            "has no downsampling.0.0.weight",
        ),
        (
            ["--from=openai", "--config=configs/digits.py", f"--model={tmp_path / 'good.pt'}"],
            "model.name=unet must be adm",
        ),
    ]
    before = sorted(tmp_path.iterdir())
    given = [[*arguments, f"--workdir={tmp_path / 'run'}"] for arguments, _ in cases]
    for (arguments, message), done in zip(cases, run_each("convert", given)):
        assert done.returncode == 1, arguments
        assert message in done.stderr, (arguments, done.stderr)
        assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert sorted(tmp_path.iterdir()) == before
