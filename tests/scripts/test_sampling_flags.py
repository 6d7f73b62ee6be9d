"""Sampling settings from flags: what is given, what is switched off, what contradicts."""

import pytest
from absl import flags

from diffusion_jax.config import named_configs, overrides
from diffusion_jax.config.experiment import Experiment
from scripts.cli import sampling_flags


@pytest.fixture
def given(monkeypatch):
    """A function of a command line that returns its `SamplingFlags`."""

    def parse(*arguments, lists=False):
        values = flags.FlagValues()
        with monkeypatch.context() as patch:
            for name in ("DEFINE", "DEFINE_float", "DEFINE_multi_string", "DEFINE_bool"):
                define = getattr(flags, name)
                patch.setattr(
                    sampling_flags.flags,
                    name,
                    lambda *rest, define=define: define(*rest, flag_values=values),
                )
            found = sampling_flags.SamplingFlags(lists=lists)
        values(["sample", *arguments])
        return found

    return parse


def test_only_settings_that_are_given_are_returned(given):
    assert given().settings() == {}
    assert given("--steps=5", "--noclip", "--option=s_churn=3").settings() == {
        "steps": 5,
        "clip": False,
        "s_churn": "3",
    }


def test_shorthands_are_converted(given):
    assert given("--cfg_scale=0").settings() == {"guidance": -1.0}
    assert given("--cfg_scale=3", "--ddim_scale=0.25").settings() == {"guidance": 2.0, "eta": 0.5}


def test_a_sweep_takes_lists(given):
    sweep = given("--steps=5,10", "--cfg_scale=1,3", "--noclip", "--option=order=2", lists=True)
    assert sweep.lists() == {"steps": [5, 10], "guidance": [0.0, 2.0], "clip": [False]}
    assert sweep.options() == {"order": "2"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--guidance=1", "--cfg_scale=2"], "--guidance and --cfg_scale"),
        (["--eta=1", "--ddim_scale=1"], "--eta and --ddim_scale"),
        (["--eta=1", "--option=eta=0"], "eta was given twice"),
        (["--option=eta"], "NAME=VALUE"),
    ],
)
def test_contradictions_are_refused(given, arguments, message):
    with pytest.raises(ValueError, match=message):
        given(*arguments).settings()


@pytest.mark.parametrize("interval", ["5,1", "1,1", "-1,2", "1", "a,b", "nan,1"])
def test_an_interval_needs_low_below_high(given, interval):
    with pytest.raises(flags.IllegalFlagValueError, match="LOW,HIGH"):
        given(f"--guidance_interval={interval}")


def test_settings_of_a_run_can_be_switched_off(given):
    config = named_configs.get_config("digits")
    config.sampling.guidance_high = 3.0
    config.sampling.dynamic_threshold = 0.9
    config.sampling.classifier = "runs/classifier"
    off = given("--guidance_interval=0.5,inf", "--dynamic_threshold=None", "--classifier=None")
    overrides.change_sampling(config, off.settings())
    sampling = config.sampling
    assert (sampling.guidance_low, sampling.guidance_high) == (0.5, None)
    assert (sampling.dynamic_threshold, sampling.classifier) == (None, None)
    assert Experiment.from_config(config).sampling.guidance.interval == (0.5, float("inf"))
    overrides.change_sampling(config, given("--guidance_interval=0.5,2").settings())
    assert Experiment.from_config(config).sampling.guidance.interval == (0.5, 2.0)


def test_another_solver_brings_its_default_of_clip(given):
    """Unless the run already has that solver."""
    for arguments, clips in (
        (["--solver=original"], False),
        (["--solver=ddim"], True),
        (["--solver=ddim", "--noclip"], False),
    ):
        config = named_configs.get_config(
            "digits", {"sampling.solver": "original", "sampling.clip": False}
        )
        overrides.change_sampling(config, given(*arguments).settings())
        assert config.sampling.clip is clips
