import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from benchmarks.flops import count_flops
from benchmarks.train_step import forward_flops
from configs import res_res, res_res_atn
from diffusion_jax.config.experiment import make_model
from diffusion_jax.training.state import init_params


def shapes_of_params(config):
    model = make_model(config)
    return jax.eval_shape(lambda: init_params(model, 0, config.data.resolution))


@pytest.mark.parametrize(("module", "gflops"), [(res_res, 105.8), (res_res_atn, 118.9)])
def test_published_counts(module, gflops):
    config = module.get_config()
    config.original_quirks = True
    assert_allclose(forward_flops(config, shapes_of_params(config)) / 1e9, gflops, atol=0.06)


def test_products_and_loops():
    a, b = np.zeros((3, 4), np.float32), np.zeros((4, 5), np.float32)
    assert count_flops(jnp.dot, a, b) == 2 * 3 * 4 * 5

    def loop(a, b):
        return jax.lax.scan(lambda x, _: (x + a @ b, None), a @ b, None, length=7)[0]

    assert count_flops(jax.jit(loop), a, b) == 8 * 2 * 3 * 4 * 5


def test_the_count_agrees_with_that_of_xla():
    """On images so large that the padding, which XLA leaves out, hardly counts."""
    config = res_res_atn.get_config()
    config.model.width, config.model.levels, config.data.resolution = 64, 1, 256
    model, params = make_model(config), shapes_of_params(config)
    image = jax.ShapeDtypeStruct((1, 256, 256, 3), np.float32)
    integer = jax.ShapeDtypeStruct((1,), np.int32)
    lowered = jax.jit(model.apply).lower({"params": params}, image, integer, integer)
    ours = forward_flops(config, params)
    assert_allclose(ours, lowered.cost_analysis()["flops"], rtol=0.03)
