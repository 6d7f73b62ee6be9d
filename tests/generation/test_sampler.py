"""The compiled sampling program."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from tiny import tiny_config, tiny_transformer_config, train

from diffusion_jax import parallel
from diffusion_jax.config.experiment import Experiment, make_model
from diffusion_jax.config.schema import model_section
from diffusion_jax.diffusion.sampling_schedule import karras_sigmas, to_clean_image, to_float32
from diffusion_jax.generation.guidance_models import GuidanceModels
from diffusion_jax.generation.prepared_denoiser import DiffusionModel
from diffusion_jax.generation.sampler import Sampler
from diffusion_jax.training.state import init_params
from diffusion_jax.workdir.parameters import load_params

LABELS = np.arange(8, dtype=np.int32)


def params_of(config, seed=0):
    """Parameters with noise: the output layer of a new network is almost 0."""
    model = make_model(config)
    params = jax.jit(lambda: init_params(model, seed, config.data.resolution))()
    return parallel.replicate(params)


def weakened(config):
    return GuidanceModels(weak=DiffusionModel.from_experiment(Experiment.from_config(config)))


@pytest.fixture(scope="module")
def sampled():
    """(config, parameters, sampler, samples)."""
    config = tiny_config(model__blocks="res", sampling__ddim__eta=0.5)
    sampler = Sampler.from_experiment(Experiment.from_config(config), batch_size=8)
    params = params_of(config)
    return config, params, sampler, sampler(params, LABELS, seed=1)[0]


def test_settings_of_a_call_override_those_of_the_sampler(sampled):
    _, params, sampler, images = sampled
    same, _ = sampler(params, LABELS, seed=1, guidance_scale=1.0, eta=0.5)
    assert_array_equal(same, images)
    for other in ({"guidance_scale": 3.0}, {"guidance_scale": 0.0}, {"eta": 1.0}):
        assert np.abs(sampler(params, LABELS, seed=1, **other)[0] - images).max() > 1e-3
    again = tiny_config(model__blocks="res", sampling__ddim__eta=1.0, sampling__guidance=3.0)
    wanted, _ = Sampler.from_experiment(Experiment.from_config(again), batch_size=8)(
        params, LABELS, seed=1
    )
    assert_array_equal(sampler(params, LABELS, seed=1, guidance_scale=3.0, eta=1.0)[0], wanted)


def test_changed_numbers_do_not_recompile(sampled):
    """Guidance on and off are two programs."""
    _, params, sampler, _ = sampled
    lowered = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, seconds, **_: lowered.append(event) if "jaxpr_to_mlir" in event else None
    )
    sampler(params, LABELS, seed=1)
    before = len(lowered)
    sampler(params, LABELS[::-1].copy(), seed=2, guidance_scale=2.5, eta=0.1, start=8)
    assert len(lowered) == before


def test_samples_depend_on_their_index_and_not_on_the_call(sampled):
    _, params, sampler, _ = sampled
    whole, _ = sampler(params, np.tile(LABELS, 2), seed=1)
    later, _ = sampler(params, LABELS, seed=1, start=8)
    assert_array_equal(later, whole[8:])
    assert np.abs(later - whole[:8]).max() > 0.1


def test_schedules_and_intervals_do_not_recompile_and_a_solver_does_once():
    config = tiny_transformer_config(sampling__guidance_low=0.5, sampling__guidance_rescale=0.5)
    sampler = Sampler.from_experiment(Experiment.from_config(config), batch_size=8)
    params, schedule = params_of(config), Experiment.from_config(config).schedule
    lowered = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, seconds, **_: lowered.append(event) if "jaxpr_to_mlir" in event else None
    )

    def programs(sampler, **changes):
        before = len(lowered)
        images, _ = sampler(params, LABELS, seed=1, **changes)
        return len(lowered) - before, images

    def karras(steps, largest, rho):
        sigma = karras_sigmas(steps, 0.05, largest, rho)
        return to_clean_image(schedule.at_sigma(sigma))

    _, images = programs(sampler)
    for rho, largest in [(7.0, 80.0), (3.0, 40.0)]:
        count, other = programs(sampler, sampling_schedule=karras(4, largest, rho))
        assert count == 0
        assert np.abs(other - images).max() > 1e-3
    sampler.guidance = replace(sampler.guidance, interval=(0.1, 2.0), rescale=0.7)
    assert programs(sampler)[0] == 0
    assert programs(sampler, sampling_schedule=karras(5, 80.0, 7.0))[0] == 1
    assert programs(sampler, sampling_schedule=karras(5, 40.0, 3.0))[0] == 0
    config.sampling.solver = "heun"
    heun = Sampler.from_experiment(Experiment.from_config(config), batch_size=8)
    assert programs(heun)[0] == 1
    assert programs(heun, sampling_schedule=karras(4, 40.0, 3.0))[0] == 0


def test_options_outside_the_solvers_are_refused(sampled):
    _, params, sampler, _ = sampled
    with pytest.raises(ValueError, match="no option churn; its options: eta"):
        sampler(params, LABELS, seed=1, churn=3.0)
    with pytest.raises(ValueError, match=r"eta=2.0 must be in \[0, 1\]"):
        sampler(params, LABELS, seed=1, eta=2.0)


def test_interpolated_c_noise_gives_the_same_samples(sampled):
    """The levels of a chain, given by sigma / alpha as in a Karras spacing."""
    _, params, _, _ = sampled
    config = tiny_config(model__blocks="res", sampling__steps=10, sampling__spacing="ends")
    sampler = Sampler.from_experiment(Experiment.from_config(config), batch_size=8)
    by_chain, _ = sampler(params, LABELS, seed=1)
    schedule = Experiment.from_config(config).schedule
    levels = schedule.sampling_schedule(10).levels
    sigma = (levels.sigma / levels.alpha)[:-1]
    sampler.sampling_schedule = to_float32(to_clean_image(schedule.at_sigma(sigma)))
    by_sigma, _ = sampler(params, LABELS, seed=1)
    assert_allclose(by_sigma, by_chain, atol=1e-5)


def test_autoguidance_takes_a_model_of_another_schedule_and_parameterization():
    """With w = -1 only the weak model is left, which gets x at its own levels."""
    blocks = {"model__blocks": "res", "sampling__steps": 6, "sampling__clip": False}
    config = tiny_config(**blocks, sampling__guidance=1.0)
    weak = tiny_config(
        **blocks,
        schedule__name="edm",
        parameterization__name="edm",
        loss__kind="simple",
        model__width=4,
    )
    Experiment.from_config(weak)
    sampler = Sampler.from_experiment(
        Experiment.from_config(config), batch_size=8, guides=weakened(weak)
    )
    params, weak_params = params_of(config), params_of(weak, seed=1)
    guided, _ = sampler(params, LABELS, seed=1, guide_params={"weak": weak_params})
    assert np.isfinite(guided).all()
    left, _ = sampler(
        params, LABELS, seed=1, guide_params={"weak": weak_params}, guidance_scale=-1.0
    )
    # The weak model alone, on the same levels in its own scale, where x = x0 + sigma eps.
    alone = Sampler.from_experiment(Experiment.from_config(weak), batch_size=8)
    levels = Experiment.from_config(config).sampling.sampling_schedule.levels
    sigma = (levels.sigma / levels.alpha)[:-1]
    own = to_clean_image(Experiment.from_config(weak).schedule.at_sigma(sigma))
    alone.sampling_schedule = to_float32(own)
    unguided, _ = alone(weak_params, LABELS, seed=1, guidance_scale=0.0)
    # Both start from equal noise: sigma z there, noise z in the strong model's scale.
    assert_allclose(left, unguided, atol=2e-3 * np.abs(unguided).max())
    with pytest.raises(ValueError, match="must be of weak"):
        sampler(params, LABELS, seed=1)


def test_the_config_can_name_a_weaker_run(tmp_path, ordinary_promotion):
    config = tiny_transformer_config(sampling__steps=3, sampling__guidance=2.0)
    weak = tiny_transformer_config(steps=3, checkpoint_every=2, keep_latest=5)
    train(weak, tmp_path / "weak")
    params = params_of(config)
    images = {}
    for step in (2, 3):
        _, weak_params = load_params(
            tmp_path / "weak", Experiment.from_config(weak), checkpoint=step
        )
        by_hand = Sampler.from_experiment(
            Experiment.from_config(config), batch_size=8, guides=weakened(weak)
        )
        images[step], _ = by_hand(params, LABELS, seed=1, guide_params={"weak": weak_params})
        config.sampling.autoguidance = str(tmp_path / "weak")
        config.sampling.autoguidance_checkpoint = step if step == 2 else None  # the newest
        named = Sampler.from_experiment(Experiment.from_config(config), batch_size=8)
        assert_array_equal(named(params, LABELS, seed=1)[0], images[step])
        config.sampling.update(autoguidance=None, autoguidance_checkpoint=None)
    assert np.abs(images[2] - images[3]).max() > 1e-6
    config.sampling.autoguidance = str(tmp_path / "weak")
    config.label_dropout = 0.0
    Experiment.from_config(config)  # no null class is needed
    config.data.resolution = 16
    with pytest.raises(ValueError, match="has 8 for resolution, and the guided run has 16"):
        Sampler.from_experiment(Experiment.from_config(config), batch_size=8)
    config.sampling.autoguidance_checkpoint = 7
    with pytest.raises(FileNotFoundError, match=r"sampling\.autoguidance=.*weak: .*7"):
        Sampler.from_experiment(Experiment.from_config(config), batch_size=8)


@pytest.mark.parametrize("number", ["guidance", "interval", "rescale", "quantile"])
def test_every_guidance_setting_changes_the_samples(sampled, number):
    """0 is off, and settings that need guidance are off without it."""
    config, params, _, images = sampled
    changes = {
        "guidance": {"guidance": 2.0},
        "interval": {"guidance_low": 0.5, "guidance_high": 2.0},
        "rescale": {"guidance_rescale": 0.7},
        "quantile": {"dynamic_threshold": 0.9},
    }[number]
    config = config.copy_and_resolve_references()
    config.sampling.update(changes)
    Experiment.from_config(config)
    other, _ = Sampler.from_experiment(Experiment.from_config(config), batch_size=8)(
        params, LABELS, seed=1
    )
    assert np.abs(other - images).max() > 1e-4
    config.sampling.guidance = 0.0
    plain, _ = Sampler.from_experiment(Experiment.from_config(config), batch_size=8)(
        params, LABELS, seed=1
    )
    off = {"guidance_high": None, "dynamic_threshold": None}
    config.sampling.update({name: off.get(name, 0.0) for name in changes})
    unguided, _ = Sampler.from_experiment(Experiment.from_config(config), batch_size=8)(
        params, LABELS, seed=1
    )
    if number != "quantile":
        assert_array_equal(plain, unguided)


def test_an_unconditional_model_guides_one_with_classes():
    config = tiny_transformer_config(sampling__steps=3, sampling__guidance=1.0)
    weak = tiny_transformer_config(model__num_classes=0)
    sampler = Sampler.from_experiment(
        Experiment.from_config(config), batch_size=8, guides=weakened(weak)
    )
    images, _ = sampler(params_of(config), LABELS, seed=1, guide_params={"weak": params_of(weak)})
    assert np.isfinite(images).all()


@pytest.mark.parametrize(
    "solver", ["heun", "dpmpp_2m", "ddpm", "dpmpp_2s", "dpmpp_sde_2m", "unipc"]
)
@pytest.mark.parametrize("schedule", ["flow", "edm"])
def test_other_solvers_and_schedules_give_finite_samples(solver, schedule):
    config = tiny_config(
        schedule__name=schedule,
        parameterization__name="velocity" if schedule == "flow" else "edm",
        loss__kind="simple",
        sampling__solver=solver,
        model__blocks="res",
    )
    Experiment.from_config(config)
    images, film = Sampler.from_experiment(Experiment.from_config(config), batch_size=8, frames=4)(
        params_of(config), LABELS, seed=0
    )
    assert images.shape == (8, 8, 8, 1)
    assert np.isfinite(images).all()
    assert np.abs(images).max() <= 1 + 1e-4
    assert_array_equal(film.x[:, -1], images)


def test_any_pytree_of_rows_is_a_condition(monkeypatch):
    """A transformer with labels and an image as its condition."""
    from diffusion_jax.models.dit import DiT

    class Pictured(DiT):
        def forward(self, x, c_noise, condition, train, examples):
            output = super().forward(x, c_noise, condition["label"], train, examples)
            return replace(output, estimate=output.estimate + condition["picture"])

        def example_condition(self, rows):
            picture = jnp.zeros((rows, 8, 8, 1))
            return {"label": jnp.zeros((rows,), jnp.int32), "picture": picture}

        def null_condition(self, condition):
            label = jnp.full_like(condition["label"], self.num_classes)
            return {"label": label, "picture": condition["picture"]}

    from diffusion_jax.models import MODELS

    monkeypatch.setitem(MODELS, "pictured", Pictured)
    config = tiny_config(loss__kind="simple", parameterization__name="x0", sampling__clip=False)
    fields = {"channels": 1, "num_classes": 10, "width": 8, "depth": 1, "num_heads": 2}
    with config.unlocked():
        config.model = model_section("pictured", **fields)
    sampler = Sampler.from_experiment(Experiment.from_config(config), batch_size=8)
    pictures = np.linspace(-1, 1, 8 * 64, dtype=np.float32).reshape(8, 8, 8, 1)
    condition = {"label": LABELS, "picture": pictures}
    images, _ = sampler(params_of(config), condition, seed=0)
    # The head of a fresh DiT is 0, so that x0 is the picture, guided or not.
    assert_allclose(images, pictures, atol=1e-5)
