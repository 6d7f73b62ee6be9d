"""From parameters to images, by way of a whole program."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from tiny import tiny_config, tiny_transformer_config

from diffusion_jax import parallel
from diffusion_jax.diffusion import paths
from diffusion_jax.runs import build
from diffusion_jax.runs.generator import Generator
from diffusion_jax.runs.sections import model_section
from diffusion_jax.runs.validation import validate
from diffusion_jax.training.state import init_params

LABELS = np.arange(8, dtype=np.int32)


def params_of(config, seed=0):
    """Parameters that say something: a fresh head would be all but silent."""
    model = build.make_model(config)
    params = jax.jit(lambda: init_params(model, seed, config.data.resolution))()
    return parallel.replicate(params)


@pytest.fixture(scope="module")
def drawn():
    """(config, parameters, generator, its images)."""
    config = tiny_config(model__blocks="res", sampling__ddim__eta=0.5)
    generator = Generator.from_config(config, batch_size=8)
    params = params_of(config)
    return config, params, generator, generator(params, LABELS, seed=1)[0]


def test_a_generator_keeps_its_settings_and_takes_others(drawn):
    _, params, generator, images = drawn
    same, _ = generator(params, LABELS, seed=1, guidance_scale=1.0, eta=0.5)
    assert_array_equal(same, images)
    for other in ({"guidance_scale": 3.0}, {"guidance_scale": 0.0}, {"eta": 1.0}):
        assert np.abs(generator(params, LABELS, seed=1, **other)[0] - images).max() > 1e-3
    again = tiny_config(model__blocks="res", sampling__ddim__eta=1.0, sampling__guidance=3.0)
    wanted, _ = Generator.from_config(again, batch_size=8)(params, LABELS, seed=1)
    assert_array_equal(generator(params, LABELS, seed=1, guidance_scale=3.0, eta=1.0)[0], wanted)


def test_numbers_compile_nothing_anew(drawn):
    """Two programs at the most: with guidance, and without."""
    _, params, generator, _ = drawn
    lowered = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, seconds, **_: lowered.append(event) if "jaxpr_to_mlir" in event else None
    )
    generator(params, LABELS, seed=1)
    before = len(lowered)
    generator(params, LABELS[::-1].copy(), seed=2, guidance_scale=2.5, eta=0.1, start=8)
    assert len(lowered) == before


def test_options_are_those_of_the_solver(drawn):
    _, params, generator, _ = drawn
    with pytest.raises(ValueError, match="no option churn; its options: eta"):
        generator(params, LABELS, seed=1, churn=3.0)
    with pytest.raises(ValueError, match=r"eta=2.0 must be in \[0, 1\]"):
        generator(params, LABELS, seed=1, eta=2.0)


def test_the_interpolated_clock_gives_the_same_samples(drawn):
    """A chain's levels, entered by their noise / signal as a Karras grid would be."""
    _, params, _, _ = drawn
    config = tiny_config(model__blocks="res", sampling__steps=10)
    generator = Generator.from_config(config, batch_size=8)
    by_chain, _ = generator(params, LABELS, seed=1)
    schedule = build.make_schedule(config)
    levels = schedule.path(10).levels()
    sigma = (levels.noise / levels.signal)[:-1]
    generator._path = paths.on_device(paths.to_clean_image(schedule.at_sigma(sigma)))
    by_sigma, _ = generator(params, LABELS, seed=1)
    assert_allclose(by_sigma, by_chain, atol=1e-5)


def test_autoguidance_takes_a_model_of_another_schedule_and_parametrisation():
    """The weak model sees x at its own levels: with w = -1 nothing but the weak one is left."""
    blocks = {"model__blocks": "res", "sampling__steps": 6, "sampling__clip": False}
    config = tiny_config(**blocks, sampling__guidance=1.0)
    weak = tiny_config(
        **blocks, schedule__name="edm", parametrisation="edm", loss__kind="simple", model__width=4
    )
    validate(weak)
    generator = Generator.from_config(config, batch_size=8, weak=weak)
    params, weak_params = params_of(config), params_of(weak, seed=1)
    guided, _ = generator(params, LABELS, seed=1, weak_params=weak_params)
    assert np.isfinite(guided).all()
    left, _ = generator(params, LABELS, seed=1, weak_params=weak_params, guidance_scale=-1.0)
    # The weak model alone, on the same levels in its own scale, where x = x0 + sigma eps.
    alone = Generator.from_config(weak, batch_size=8)
    levels = build.make_sampling_path(config).levels()
    sigma = (levels.noise / levels.signal)[:-1]
    own = paths.to_clean_image(build.make_schedule(weak).at_sigma(sigma))
    alone._path = paths.on_device(own)
    unguided, _ = alone(weak_params, LABELS, seed=1, guidance_scale=0.0)
    # Both start from equal noise: sigma z there, noise z in the strong model's scale.
    assert_allclose(left, unguided, atol=2e-3 * np.abs(unguided).max())
    with pytest.raises(ValueError, match="weak_params belong to"):
        generator(params, LABELS, seed=1)


def test_an_unconditional_model_guides_one_with_classes():
    config = tiny_transformer_config(sampling__steps=3, sampling__guidance=1.0)
    weak = tiny_transformer_config(model__num_classes=0)
    generator = Generator.from_config(config, batch_size=8, weak=weak)
    images, _ = generator(params_of(config), LABELS, seed=1, weak_params=params_of(weak))
    assert np.isfinite(images).all()


@pytest.mark.parametrize(
    "solver", ["heun", "dpmpp_2m", "ddpm", "dpmpp_2s", "dpmpp_sde_2m", "unipc"]
)
@pytest.mark.parametrize("schedule", ["flow", "edm"])
def test_other_solvers_and_schedules_draw(solver, schedule):
    config = tiny_config(
        schedule__name=schedule,
        parametrisation="velocity" if schedule == "flow" else "edm",
        loss__kind="simple",
        sampling__solver=solver,
        model__blocks="res",
    )
    validate(config)
    images, film = Generator.from_config(config, batch_size=8, frames=4)(
        params_of(config), LABELS, seed=0
    )
    assert images.shape == (8, 8, 8, 1)
    assert np.isfinite(images).all()
    assert np.abs(images).max() <= 1 + 1e-4
    assert_array_equal(film.x[:, -1], images)


def test_any_pytree_of_rows_is_a_condition(monkeypatch):
    """A transformer whose condition is labels and, besides, a picture to start from."""
    from diffusion_jax.models.dit import DiT

    class Pictured(DiT):
        def __call__(self, x, clock, condition=None, **options):
            output = DiT.__call__(self, x, clock, condition["label"], **options)
            return replace(output, estimate=output.estimate + condition["picture"])

        def example_condition(self, rows):
            picture = jnp.zeros((rows, 8, 8, 1))
            return {"label": jnp.zeros((rows,), jnp.int32), "picture": picture}

        def null_condition(self, condition):
            label = jnp.full_like(condition["label"], self.num_classes)
            return {"label": label, "picture": condition["picture"]}

    from diffusion_jax.models import MODELS

    monkeypatch.setitem(MODELS, "pictured", Pictured)
    config = tiny_config(loss__kind="simple", parametrisation="x0", sampling__clip=False)
    fields = {"channels": 1, "num_classes": 10, "width": 8, "depth": 1, "num_heads": 2}
    with config.unlocked():
        config.model = model_section("pictured", **fields)
    generator = Generator.from_config(config, batch_size=8)
    pictures = np.linspace(-1, 1, 8 * 64, dtype=np.float32).reshape(8, 8, 8, 1)
    condition = {"label": LABELS, "picture": pictures}
    images, _ = generator(params_of(config), condition, seed=0)
    # The head of a fresh DiT is 0, so that x0 is the picture, guided or not.
    assert_allclose(images, pictures, atol=1e-5)
