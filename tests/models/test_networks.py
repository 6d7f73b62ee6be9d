"""Facts about every network."""

import inspect
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from table_cases import SMALL_NETWORKS

from diffusion_jax.config.schema import choose
from diffusion_jax.models import MODELS, field_types
from diffusion_jax.training.state import param_shapes

SIDE, CHANNELS, CLASSES = 8, 3, 5


def randomized(model, *inputs):
    """Returns parameters without zeros, which hide what an output depends on."""
    shapes = jax.eval_shape(model.init, jax.random.key(0), *inputs)
    draw = np.random.default_rng(0).standard_normal

    def fill(path, leaf):
        noise = 0.3 * draw(leaf.shape, np.float32)
        return jnp.asarray(noise + (path[-1].key == "scale"))

    return jax.tree_util.tree_map_with_path(fill, shapes)


@pytest.mark.parametrize("name", SMALL_NETWORKS)
def test_the_output_depends_on_image_time_and_class(name):
    """Rows of one batch: the same inputs twice, then another image, another time, another class."""
    model = choose(MODELS, name, "model.name")(CHANNELS, CLASSES, **SMALL_NETWORKS[name])
    model.check(SIDE)
    x = jax.random.normal(jax.random.key(0), (5, SIDE, SIDE, CHANNELS))
    x = x[jnp.array([0, 0, 1, 0, 0])]
    c_noise = jnp.array([1.0, 1.0, 1.0, 500.0, 1.0])
    labels = None if model.classifies else jnp.array([1, 1, 1, 1, 3])
    params = randomized(model, x, c_noise, labels)
    output = jax.jit(model.apply)(params, x, c_noise, labels)
    if model.classifies:
        parts = [output]
        assert output.shape == (5, CLASSES)
    else:
        assert (output.variance_fraction is not None) == model.learns_variance
        parts = [output.estimate, *([output.variance_fraction] if model.learns_variance else [])]
        assert all(part.shape == x.shape for part in parts)
    for part in parts:
        assert part.dtype == jnp.float32
        assert_allclose(part[1], part[0], rtol=1e-4, atol=1e-5 * jnp.abs(part).max())
        for row in (2, 3) if model.classifies else (2, 3, 4):
            assert jnp.abs(part[row] - part[0]).max() > 1e-3 * jnp.abs(part[0]).max()


@pytest.mark.parametrize(
    ("device", "dtype"),
    [
        ({"platform": "cpu"}, "float32"),
        ({"platform": "gpu", "compute_capability": "9.0"}, "bfloat16"),
        ({"platform": "gpu", "compute_capability": "8.0"}, "bfloat16"),
        ({"platform": "gpu", "compute_capability": "7.5"}, "float32"),
        ({"platform": "gpu", "compute_capability": "gfx90a"}, "bfloat16"),
        ({"platform": "tpu"}, "bfloat16"),
    ],
)
def test_the_automatic_dtype_follows_from_the_device(monkeypatch, device, dtype):
    monkeypatch.setattr(jax, "devices", lambda: [SimpleNamespace(**device)])
    assert field_types.dtype_of("auto") == dtype
    for name in ("float32", "bfloat16"):
        assert field_types.dtype_of(name) == name


@pytest.mark.parametrize(
    "name", [name for name in MODELS if "dtype" in inspect.signature(MODELS[name]).parameters]
)
def test_a_network_computes_in_the_automatic_dtype(monkeypatch, name):
    """The program of "auto" is the program of the type that it stands for."""
    x, labels = jnp.ones((1, 8, 8, 1)), jnp.zeros(1, jnp.int32)

    def program(dtype):
        model = MODELS[name](1, 10, **SMALL_NETWORKS[name], dtype=dtype)
        labeled = None if model.example_condition(1) is None else labels
        params = param_shapes(model, 8)
        run = lambda params: model.apply({"params": params}, x, jnp.ones(1), labeled)  # noqa: E731
        return str(jax.make_jaxpr(run)(params))

    assert inspect.signature(MODELS[name]).parameters["dtype"].default == "auto"
    for platform, dtype in (("cpu", "float32"), ("tpu", "bfloat16")):
        wanted = program(dtype)
        with monkeypatch.context() as context:
            context.setattr(jax, "devices", lambda: [SimpleNamespace(platform=platform)])  # noqa: B023
            assert program("auto") == wanted
