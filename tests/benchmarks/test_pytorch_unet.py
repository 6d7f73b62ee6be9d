"""The U-Net and the loss that ours is measured against, in PyTorch, are the same functions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from tiny import tiny_config

from diffusion_jax.config.experiment import Experiment, make_model
from diffusion_jax.diffusion import losses, parameterizations, process
from diffusion_jax.training.state import init_params

torch = pytest.importorskip("torch")
pytorch_step = pytest.importorskip("benchmarks.pytorch_step")
pytorch_unet = pytest.importorskip("benchmarks.pytorch_unet")


@pytest.fixture(scope="module")
def config():
    blocks = "res,res,clsAtn,chnAtn"
    changes = {"model__channels": 3, "model__levels": 2, "model__blocks": blocks}
    return tiny_config(**changes, loss__vlb_weight=3.0)


@pytest.fixture(scope="module")
def network(config):
    """(ours as a function of x, c_noise and labels; the same in PyTorch)."""
    model = make_model(config)
    params = jax.jit(lambda: init_params(model, 0, 8))()
    generator = np.random.default_rng(0)  # away from gains of 1 and biases of 0
    params = jax.tree.map(lambda x: x + 0.1 * generator.standard_normal(x.shape, x.dtype), params)
    theirs = pytorch_unet.from_config(config)
    theirs.load_state_dict(pytorch_unet.state_dict_of(params))

    @jax.jit
    def ours(x, c_noise, labels):
        with jax.default_matmul_precision("highest"):
            return model.apply({"params": params}, x, c_noise, labels)

    return ours, theirs


def inputs():
    generator = np.random.default_rng(1)
    x0 = generator.integers(256, size=(5, 8, 8, 3)).astype(np.float32) / 127.5 - 1
    noise = generator.standard_normal((5, 8, 8, 3)).astype(np.float32)
    return x0, noise, np.array([1, 2, 300, 700, 1000]), np.array([0, 3, 9, 10, 10])


def to_jax(*arrays):
    return [jnp.asarray(array) for array in arrays]


def to_torch(images):
    return torch.tensor(images.transpose(0, 3, 1, 2))


def test_the_networks_compute_the_same(network):
    ours, theirs = network
    _, x, c_noise, labels = inputs()
    c_noise = c_noise.astype(np.float32)
    found = ours(*to_jax(x, c_noise, labels))
    with torch.inference_mode():
        wanted = theirs(to_torch(x), torch.tensor(c_noise), torch.tensor(labels))
    for one, other in zip([found.estimate, found.variance_fraction], wanted, strict=True):
        assert np.std(one) > 0.1
        assert_allclose(one, other.permute(0, 2, 3, 1), atol=1e-4)


def test_the_losses_are_the_same(config, network, ordinary_promotion):
    ours, theirs = network
    numbers = inputs()
    x0, noise, t, labels = to_jax(*numbers)
    schedule, parameterization = Experiment.from_config(config).schedule, parameterizations.eps()
    level = schedule.level(t)
    x = process.q_sample(level, x0, noise)
    output = ours(x, level.c_noise, labels)
    prediction = parameterizations.to_prediction(parameterization, x, level, output)
    error = losses.squared_error(noise, output.estimate)
    wanted = losses.diffusion_loss(
        losses.hybrid(),
        error,
        schedule.steps_from(t),
        x0,
        x,
        prediction,
        vlb_weight=config.loss.vlb_weight,
    )
    loss = pytorch_step.HybridLoss(schedule, config.loss.vlb_weight)
    x0, noise, t, labels = numbers
    with torch.inference_mode():
        arrays = to_torch(x0), torch.tensor(labels), torch.tensor(t - 1), to_torch(noise)
        found = loss(theirs, *arrays)
    assert_allclose(found, np.mean(wanted["loss"]), rtol=1e-4)
