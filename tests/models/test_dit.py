"""DiT: initialization, patches, positions and training."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from tiny import tiny_config, train

from configs import digits_dit
from diffusion_jax.config.experiment import Experiment
from diffusion_jax.config.schema import model_section
from diffusion_jax.importers.imported_model import with_settings
from diffusion_jax.models import DiT
from diffusion_jax.models.dit import position_embedding
from diffusion_jax.training.logging import read_metrics
from diffusion_jax.workdir.run_files import load_config

SMALL = {"channels": 2, "num_classes": 5, "patch_size": 2, "width": 16, "depth": 2, "num_heads": 2}
X = jax.random.normal(jax.random.key(0), (3, 8, 4, 2))
C_NOISE, LABELS = jnp.array([1.0, 500.0, 1000.0]), jnp.array([0, 4, 5])


def made(**changes):
    """Returns a model, its initial parameters, and these with noise."""
    model = DiT(**SMALL | changes)
    labels = LABELS if model.num_classes else None
    params = model.init(jax.random.key(1), X, C_NOISE, labels)["params"]
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(2), len(leaves))
    noisy = [a + 0.1 * jax.random.normal(k, a.shape) for a, k in zip(leaves, keys)]
    return model, params, jax.tree.unflatten(tree, noisy)


def test_a_fresh_network_outputs_zero():
    """adaLN-Zero initializes the head and the gates to 0."""
    model, params, _ = made()
    assert jnp.all(model.apply({"params": params}, X, C_NOISE, LABELS).estimate == 0)


def test_the_output_depends_on_image_time_class_and_all_patches():
    model, _, params = made()
    run = jax.jit(lambda *inputs: model.apply({"params": params}, *inputs).estimate)
    here = run(X, C_NOISE, LABELS)
    assert here.shape == X.shape
    assert jnp.abs(run(X, C_NOISE + 3, LABELS) - here).max() > 1e-3
    assert jnp.abs(run(X, C_NOISE, LABELS[::-1]) - here)[0].max() > 1e-3
    # Every patch attends to every other one, and no example to its neighbors.
    far = jax.jit(jax.grad(lambda x: run(x, C_NOISE, LABELS)[1, 0, 0, 0]))(X)
    assert jnp.abs(far[1, -1, -1]).min() > 1e-8
    assert jnp.all(far[jnp.array([0, 2])] == 0)


def test_patches_keep_their_position():
    """Closed gates and an inverted stem keep every patch where it was."""
    model, params, _ = made(depth=1, width=8, num_heads=1)
    params["stem"]["kernel"] = jnp.eye(8).reshape(2, 2, 2, 8)
    params["stem"]["bias"] = jnp.zeros(8)
    params["head"]["kernel"] = jnp.eye(8)
    tokens = X.reshape(3, 4, 2, 2, 2, 2).transpose(0, 1, 3, 2, 4, 5).reshape(3, 8, 8)
    tokens = tokens + position_embedding(4, 2, 8)[None]
    mean, std = tokens.mean(-1, keepdims=True), tokens.std(-1, keepdims=True)
    wanted = ((tokens - mean) / std).reshape(3, 4, 2, 2, 2, 2).transpose(0, 1, 3, 2, 4, 5)
    found = model.apply({"params": params}, X, C_NOISE, LABELS).estimate
    assert_allclose(found, wanted.reshape(X.shape), atol=1e-4)


def test_position_embeddings_are_distinct():
    embedding = position_embedding(4, 6, 16)
    assert embedding.shape == (24, 16)
    distances = np.linalg.norm(embedding[:, None] - embedding[None], axis=-1)
    assert distances[~np.eye(24, dtype=bool)].min() > 0.1
    row, column = np.divmod(np.arange(24), 6)
    assert_allclose(embedding[:, 0], np.sin(row), atol=1e-6)
    assert_allclose(embedding[:, 8], np.sin(column), atol=1e-6)


def test_learn_variance_adds_a_second_output():
    model, _, params = made(learn_variance=True)
    output = model.apply({"params": params}, X, C_NOISE, LABELS)
    assert model.learns_variance
    assert output.variance_fraction.shape == X.shape
    assert jnp.abs(output.variance_fraction - output.estimate).max() > 1e-3
    model, _, params = made(num_classes=0)
    assert not model.learns_variance
    assert model.apply({"params": params}, X, C_NOISE).variance_fraction is None


def test_bfloat16_is_close_to_float32():
    model, _, params = made()
    exact = model.apply({"params": params}, X, C_NOISE, LABELS).estimate
    rough = DiT(**SMALL, dtype="bfloat16").apply({"params": params}, X, C_NOISE, LABELS).estimate
    assert rough.dtype == jnp.float32
    assert_allclose(rough, exact, atol=0.05 * float(jnp.abs(exact).max()))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"patch_size": 3}, "data.resolution=8 is not divisible by model.patch_size=3"),
        ({"num_heads": 5}, "model.width=96 is not divisible by model.num_heads=5"),
        ({"width": 90, "num_heads": 1}, "by 4"),
        ({"depth": 0}, "model.depth=0 must be at least 1"),
        ({"dtype": "float16"}, "one of auto, float32, bfloat16"),
    ],
)
def test_mistakes_are_named(changes, message):
    config = digits_dit.get_config()
    config.model.update(changes)
    with pytest.raises(ValueError, match=message):
        Experiment.from_config(config)


def test_a_loss_that_needs_a_variance_is_refused():
    config = digits_dit.get_config()
    config.loss.kind = "hybrid"
    with pytest.raises(ValueError, match=r"hybrid trains a variance.*loss\.kind=simple"):
        Experiment.from_config(config)
    config.model.learn_variance = True
    Experiment.from_config(config)


@pytest.mark.usefixtures("ordinary_promotion")
def test_it_trains_without_a_variance(tmp_path):
    """The metrics have no bound, and neither has the curve."""
    config = tiny_config(loss__kind="simple", steps=4, checkpoint_every=4, sample_every=4)
    with config.unlocked():
        config.model = model_section("dit", **SMALL | {"channels": 1, "num_classes": 10})
    train(config, tmp_path)
    lines = read_metrics(tmp_path)
    assert [line["step"] for line in lines] == [2, 4]
    assert all(line["loss"] == line["simple"] > 0 and "vlb" not in line for line in lines)
    assert (tmp_path / "loss.png").exists()
    assert (
        load_config(tmp_path).to_dict()
        == with_settings(config, {"model.dtype": "float32"}).to_dict()
    )
