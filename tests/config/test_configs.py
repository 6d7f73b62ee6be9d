import importlib
import itertools
import json
from dataclasses import fields
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import tiny_config

from configs import base
from diffusion_jax.config import overrides, schema
from diffusion_jax.config.experiment import Experiment, make_model
from diffusion_jax.config.schema import TABLES, options_by_name, options_of
from diffusion_jax.data import FolderOptions
from diffusion_jax.diffusion import weights
from diffusion_jax.runs import datasets
from diffusion_jax.sampling import SOLVERS, SPACINGS
from diffusion_jax.training.state import init_params
from diffusion_jax.workdir.run_files import (
    differences,
    load_classes,
    load_config,
    save_classes,
    save_config,
)

CONFIGS = Path(base.__file__).parent
NAMES = sorted({path.stem for path in CONFIGS.glob("*.py")} - {"__init__", "of_workdir"})
PARAMETERS = {
    "res_conv": 144_130_269,
    "res": 123_530_231,
    "res_res": 197_566_127,
    "res_res_atn": 212_930_915,
    "res_large": 269_077_175,
}


@pytest.mark.parametrize("name", NAMES)
def test_every_config_is_valid_and_builds(name):
    config = importlib.import_module(f"configs.{name}").get_config()
    if name == "base" or config.model.num_classes is None:
        config.model.num_classes = 10
    Experiment.from_config(config)
    assert config.is_locked
    assert config.model.dtype == "auto"
    if not config.data.name.startswith("folder:"):
        options = {field.name: config.data[field.name] for field in fields(FolderOptions)}
        assert FolderOptions(**options).changed() == []
    model = make_model(config)
    params = jax.eval_shape(lambda: init_params(model, config.seed, config.data.resolution))
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    assert count == PARAMETERS.get(name, count)


def test_the_published_hyper_parameters():
    for name in PARAMETERS:
        config = importlib.import_module(f"configs.{name}").get_config()
        assert config.data.name == "tfds:imagenet_resized/64x64"
        assert (config.data.resolution, config.model.levels, config.data.flip) == (64, 3, True)
        assert config.model.width == (192 if name == "res_large" else 128)
        assert (config.schedule.name, config.schedule.num_steps) == ("cosine", 1000)
        assert (config.loss.kind, config.loss.vlb_weight) == ("hybrid", 0.001)
        assert (config.batch_size, config.steps, config.label_dropout) == (1024, 600_000, 0.2)
        assert config.optimizer.learning_rate == 3e-4
        assert (config.model.time_dim, config.model.label_dim) == (512, 512)
        assert config.model.window == 16


def test_one_switch_for_model_and_schedule():
    config = base.get_config()
    config.model.num_classes = 10
    plain = Experiment.from_config(config)
    config.original_quirks = True
    quirky = Experiment.from_config(config)
    assert plain.model != quirky.model
    assert plain.schedule.sigma_range != quirky.schedule.sigma_range


def test_warm_up_and_decay_follow_the_steps_unless_they_are_given():
    """Also holds for a stored config that is resumed with more steps."""
    config = tiny_config(
        steps=40, optimizer__warmup_steps=None, optimizer__decay="cosine", optimizer__b1=0.8
    )
    rate = Experiment.from_config(config).training.learning_rate
    assert float(rate(2)) == pytest.approx(1e-3)
    assert float(rate(40)) == pytest.approx(0, abs=1e-9)
    longer = schema.from_values(json.loads(json.dumps(config.to_dict())), base.get_config())
    longer.steps = 80
    rate = Experiment.from_config(longer).training.learning_rate
    assert float(rate(4)) == pytest.approx(1e-3)
    assert float(rate(40)) > 4e-4
    assert float(rate(80)) == pytest.approx(0, abs=1e-9)


def test_parameterization_and_weight_have_one_sigma_data():
    """With EDM's weight, the error of its target has the weight 1 at all levels."""
    config = tiny_config(
        parameterization__name="edm", parameterization__sigma_data=0.7, loss__weight="edm"
    )
    experiment = Experiment.from_config(config)
    level = experiment.schedule.level(jnp.array([10, 500, 900]))
    gain = weights.gain(experiment.parameterization, level)
    np.testing.assert_allclose(experiment.training.weight(level, gain), 1, rtol=1e-4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model__blocks": "res,rse"}, "Unknown block 'rse'.*known blocks: .*conv"),
        ({"model__levels": 4}, r"resolution=8 is not divisible by 2\^model.levels = 16"),
        (
            {"model__num_classes": 0, "model__blocks": "res,clsAtn"},
            "'clsAtn', which needs classes",
        ),
        ({"model__dtype": "float16"}, "one of auto, float32, bfloat16"),
        ({"model__width": 11, "model__blocks": "res,atn"}, "a layer of 11 channels"),
        ({"model__channels": 7, "model__blocks": "res,atn"}, "a layer of 14 channels"),
        ({"model__time_embedding": "cos"}, "auto, standard, head, published, sin"),
        ({"model__time_dim": 15}, "even"),
        ({"model__blocks": "res,atn", "model__window": 3}, "does not divide"),
        ({"original_quirks": "yes"}, "original_quirks=yes must be of type bool"),
        ({"loss__kind": "l2"}, "simple, vlb, hybrid"),
        ({"schedule__name": "cubic"}, "linear, cosine"),
        ({"sampling__steps": 2000}, r"1\.\.1000"),
        ({"sampling__ddim__eta": 1.5}, r"sampling.ddim: eta=1.5 must be in \[0, 1\]"),
        ({"sampling__solver": "rk4"}, "ddim, heun, dpmpp_2m, original"),
        (
            {"sampling__solver": "ddpm", "sampling__ddpm__variance": "big"},
            "sampling.ddpm: Unknown variance 'big'; known variances: learned, small, large",
        ),
        (
            {"sampling__solver": "heun", "sampling__heun__s_churn": -1.0},
            "sampling.heun: s_churn=-1.0 must be at least 0",
        ),
        (
            {"sampling__solver": "heun", "sampling__heun__s_churn": float("inf")},
            "sampling.heun.s_churn=inf must be finite",
        ),
        ({"sampling__guidance_low": 1e6}, "leave nothing to guide.* is from 0.00643 to 2.03e"),
        ({"sampling__guidance_high": 1e-4}, "leave nothing to guide"),
        ({"sampling__guidance_low": 2.0, "sampling__guidance_high": 1.0}, "guidance_low=2.0 must"),
        ({"sampling__autoguidance_checkpoint": 5}, "needs sampling.autoguidance"),
        ({"sampling__guidance": 1e38}, r"sampling: guidance=1e\+38 must be in \[-1, 1000\]"),
        ({"sampling__spacing": "even"}, "auto, ends, centered, karras"),
        ({"parameterization__name": "score"}, "eps, x0, v, velocity, edm"),
        ({"loss__error": "huber"}, "loss.error=huber must be one of squared, absolute"),
        ({"loss__error": "absolute", "loss__weight": "min_snr"}, "Set loss.weight=uniform"),
        ({"schedule__first_timestep": 2}, "first_timestep=2 must be 0 or 1"),
        ({"loss__weight": "snr"}, "uniform, min_snr, sigmoid, edm"),
        ({"schedule__name": "flow"}, "loss.kind=hybrid has a variational bound.*loss.kind=simple"),
        ({"schedule__edm__sigma_min": 90.0, "schedule__name": "edm"}, "sigma_min < sigma_max"),
        ({"sampling__karras__rho": -1.0, "sampling__spacing": "karras"}, "sampling: .*rho=-1.0"),
        (
            {"loss__weight": "edm", "parameterization__sigma_data": 0.0},
            "sigma_data=0.0 must be",
        ),
        ({"loss__weight": "min_snr", "loss__min_snr__gamma": -1.0}, "loss.min_snr: gamma=-1.0"),
        (
            {"parameterization__name": "edm", "parameterization__sigma_data": -1.0},
            "parameterization: sigma_data=-1.0 must be positive",
        ),
        ({"loss__weight": "min_snr", "loss__min_snr__gamma": "x"}, "loss.min_snr"),
        ({"loss__kind": "vlb", "loss__vlb__scale": 0.0}, r"loss\.vlb: scale=0.0 must be positive"),
        (
            {"loss__kind": "vlb", "loss__vlb__variance": "tiny"},
            r"loss\.vlb: variance=tiny must be small or large",
        ),
        (
            {"loss__kind": "vlb", "loss__vlb__variance": "large"},
            r"variance=large is for models without a learned variance.*variance=small",
        ),
        ({"loss__kind": "vlb", "loss__weight": "min_snr"}, "which loss.kind=vlb does not have"),
        ({"model__blocks": 3}, "model.blocks=3 must be of type str"),
        ({"model__levels": 1.0}, "model.levels=1.0 must be of type int"),
        ({"init_from": 3}, "init_from=3 must be of type str or None"),
        ({"model__options__conv__expansion": 0}, "model.options.conv.expansion=0 must be at least"),
        ({"model__options__conv__width": 2}, "model.options.conv.width; known keys: expansion"),
        ({"model__name": "resnet"}, "model.name=resnet must be one of .*dit"),
        ({"model__name": "dit"}, "config.model.*known keys: .*patch_size"),
        ({"batch_size": 0}, "batch_size=0 must be at least 1"),
        ({"batch_size": 10, "micro_batches": 3}, "not divisible by micro_batches=3"),
        ({"label_dropout": 1.0}, "label_dropout=1.0 must be less than 1"),
        ({"loss__vlb_weight": -1.0}, "loss.vlb_weight=-1.0 must be at least 0"),
        ({"schedule__num_steps": 1}, "schedule.cosine: num_steps=1 must be at least 2"),
        ({"data__threads": 0}, "data.threads=0 must be at least 1"),
        ({"cpu_devices": 0}, "cpu_devices=0 must be at least 1"),
        ({"sampling__steps": 0}, "sampling: steps=0 must be at least 1"),
        ({"sampling__stride": 0}, "sampling: stride=0 must be at least 1"),
        ({"sampling__grid_rows": 0}, "sampling.grid_rows=0 must be at least 1"),
        ({"sampling__guidance_rescale": 1.5}, r"guidance_rescale=1.5 must be in \[0, 1\]"),
        ({"sampling__guidance_low": -1.0}, "guidance_low=-1.0 must be at least 0"),
        ({"sampling__dynamic_threshold": 0.0}, "dynamic_threshold=0.0 must be positive"),
        ({"sampling__dynamic_threshold": 1.5}, r"dynamic_threshold=1.5 must be in \[0, 1\]"),
        ({"optimizer__learning_rate": 0.0}, "positive"),
        ({"seed": -1}, r"seed=-1 must be a whole number in \[0, 2\^32\)"),
        ({"label_dropout": 0.0}, "label_dropout=0 does not train"),
        ({"model__width": "wide"}, "model.width=wide must be of type int"),
        ({"model__num_classes": "ten"}, "model.num_classes=ten must be of type int or None"),
        (
            {"optimizer__decay": "cosine", "optimizer__decay_steps": 2},
            "warmup_steps=2 must be less",
        ),
        ({"optimizer__clip_norm": -1.0}, "clip_norm"),
        ({"model__depth": 3}, "Unknown key config.model.depth; known keys: .*blocks"),
    ],
)
def test_mistakes_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        Experiment.from_config(tiny_config(**changes))


def test_original_quirks_allow_what_the_original_does():
    odd = {"model__time_dim": 15, "model__width": 6}
    Experiment.from_config(tiny_config(original_quirks=True, **odd))
    Experiment.from_config(tiny_config(model__width=11))  # res and chnAtn take any width
    Experiment.from_config(tiny_config(sampling__solver="original", sampling__original__eta=1.5))


def test_names_share_sections_without_a_clash():
    """Options of a solver and of a spacing, say, live side by side in config.sampling."""
    for place, tables in TABLES.items():
        names = [name for table in tables for name in options_by_name(table)]
        fields = set(base.get_config()[place]) - set(names)
        assert len(names) == len(set(names))
        assert not fields & {name for table in tables for name in table}


def test_a_stored_config_must_have_todays_fields_but_for_options(tmp_path):
    """An option that was added since the run started has its default."""
    config = tiny_config(sampling__heun__s_churn=3.0)
    save_config(config, tmp_path)
    values = json.loads((tmp_path / "config.json").read_text())
    del values["sampling"]["ddim"], values["sampling"]["heun"]["s_noise"]
    (tmp_path / "config.json").write_text(json.dumps(values))
    assert load_config(tmp_path).to_dict() == config.to_dict()
    del values["sampling"]["steps"]
    (tmp_path / "config.json").write_text(json.dumps(values))
    with pytest.raises(ValueError, match=r"config.sampling.steps is missing"):
        load_config(tmp_path)
    values = config.to_dict() | {"sampler": "ddim"}
    (tmp_path / "config.json").write_text(json.dumps(values))
    with pytest.raises(ValueError, match=r"Unknown key config.sampler"):
        load_config(tmp_path)


@pytest.mark.parametrize(
    ("given", "options", "message"),
    [
        ({"steps": 5, "stride": 5}, {}, "steps and stride were both given"),
        ({"spacing": "karras", "stride": 5}, {}, "spacing and stride were both given"),
        ({"solver": "rk4"}, {}, "Unknown solver 'rk4'; known solvers: .*heun"),
        ({"solver": "dpmpp_2m"}, {"eta": 0.5}, "solver dpmpp_2m does not have; its options: none"),
        ({"solver": "heun"}, {"eta": 0.5}, "its options: s_churn, s_noise, s_tmax, s_tmin"),
        ({}, {"eta": "much"}, "option eta=much must be of type float"),
        (
            {"solver": "dpmpp_2m", "spacing": "karras"},
            {"eta": 0.5},
            "dpmpp_2m does not have; its options: none, and which the spacing karras does not "
            "have; its options: rho, sigma_max, sigma_min",
        ),
        ({"stride": 5}, {"rho": 5}, "the solver ddim does not have; its options: eta$"),
        ({"spacing": "list"}, {"interpolate": "1"}, "interpolate=1 must be true or false"),
        (
            {"spacing": "sections", "steps": 5},
            {"sections": "25"},
            "--steps was given, but spacing=sections has its own number of steps. Leave",
        ),
        (
            {"spacing": "list", "steps": 5},
            {"sigmas": "5,1"},
            "spacing=list has its own number of steps.*add --option interpolate=true",
        ),
    ],
)
def test_contradicting_sampling_settings_are_refused(given, options, message):
    with pytest.raises(ValueError, match=message):
        overrides.change_sampling(tiny_config(), given, options)


def test_sampling_settings_take_the_place_of_others():
    config = tiny_config(sampling__stride=100)
    overrides.change_sampling(config, {"spacing": "karras", "clip": None}, {"eta": "0.25"})
    settings = overrides.settings_in_use(Experiment.from_config(config))
    assert (settings["stride"], settings["eta"], settings["rho"]) == (None, 0.25, 7.0)
    overrides.change_sampling(config, {"solver": "original"})
    settings = overrides.settings_in_use(Experiment.from_config(config))
    assert (settings["clip"], settings["eta"]) == (False, 0.0)


def test_an_option_is_of_the_solver_or_of_the_spacing():
    """--option finds the one of the two that it belongs to, since no name is in both."""
    for solver, spacing in itertools.product(SOLVERS.values(), SPACINGS.values()):
        assert not options_of(solver).keys() & options_of(spacing).keys()
    config = tiny_config()
    overrides.change_sampling(config, {"spacing": "karras"}, {"eta": "0.5", "rho": "3"})
    assert (config.sampling.ddim.eta, config.sampling.karras.rho) == (0.5, 3.0)
    settings = overrides.settings_in_use(Experiment.from_config(config))
    assert (settings["eta"], settings["rho"]) == (0.5, 3.0)


@pytest.mark.parametrize(
    ("given", "options", "steps"),
    [
        ({"spacing": "sections"}, {"sections": "10,15,20"}, 45),
        ({"spacing": "list"}, {"timesteps": "999,500,0"}, 3),
        ({"spacing": "list", "steps": 7}, {"sigmas": "5,1", "interpolate": "true"}, 7),
        ({"stride": 100}, {}, 10),
        ({"steps": 12}, {}, 12),
    ],
)
def test_settings_in_use_have_the_true_number_of_steps(given, options, steps):
    config = tiny_config()
    overrides.change_sampling(config, given, options)
    Experiment.from_config(config)
    assert overrides.settings_in_use(Experiment.from_config(config))["steps"] == steps
    assert Experiment.from_config(config).sampling.sampling_schedule.num_steps == steps


def test_steps_do_not_silently_replace_a_list():
    """A run whose config has a list: another number of steps takes another spacing."""
    config = tiny_config(sampling__spacing="sections", sampling__sections__sections=(25,))
    with pytest.raises(ValueError, match="choose another --spacing"):
        overrides.change_sampling(config, {"steps": 10})
    overrides.change_sampling(config, {"steps": 10, "spacing": "trailing"})
    assert overrides.settings_in_use(Experiment.from_config(config))["steps"] == 10


def test_a_missing_key_is_named():
    config = tiny_config()
    with config.unlocked():
        del config.loss["kind"]
    with pytest.raises(ValueError, match=r"config.loss.kind is missing"):
        Experiment.from_config(config)


def test_configs_round_trip_through_files(tmp_path):
    config = tiny_config(optimizer__clip_norm=0.5)
    save_config(config, tmp_path)
    save_classes(["a", "b"], tmp_path)
    again = load_config(tmp_path)
    Experiment.from_config(again)
    assert again.to_dict() == config.to_dict()
    assert differences(config, again) == []
    assert load_classes(tmp_path) == ["a", "b"]
    again.model.width = 16
    assert differences(config, again) == ["model.width: 8 -> 16"]


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="not the workdir of a run"):
        load_config(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(ValueError, match="no JSON object"):
        load_config(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match="not readable as JSON"):
        load_config(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model__num_classes": 7}, "num_classes=7, but digits has 10 classes"),
        ({"data__resolution": 16}, r"\(8, 8, 1\).*\(16, 16, 1\)"),
        ({"data__name": "svhn"}, "known names: .*digits.*tfds:NAME"),
        ({"data__split": "train"}, "digits has no split 'train'.*it has: all"),
        ({"data__name": "tfds:no_such_set"}, "no dataset 'no_such_set'"),
        ({"data__name": "tfds:mnist", "data__data_dir": "/nowhere"}, "not prepared in /nowhere"),
    ],
)
def test_data_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        datasets.open_source(tiny_config(**changes))
