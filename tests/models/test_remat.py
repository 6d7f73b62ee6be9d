"""Blocks that are computed again in the backward pass."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from diffusion_jax.models import ADM, EDM2, AttentionUNet, PlainUNet, SongUNet, UNet
from diffusion_jax.training.state import init_params

UNET = {"width": 8, "levels": 1, "blocks": "res", "time_dim": 16, "label_dim": 16}
SMALL_ADM = {
    "width": 32,
    "multipliers": (1, 2),
    "blocks": 1,
    "attention": (4,),
    "head_channels": 16,
}
SMALL = {"width": 32, "multipliers": (1, 2), "blocks": 1, "attention": (4,)}
NETWORKS = {
    "unet": (UNet, UNET),
    "adm": (ADM, SMALL_ADM),
    "edm2": (EDM2, SMALL | {"head_channels": 16}),
    "song": (SongUNet, SMALL),
    "plain_unet": (PlainUNet, {"width": 8, "levels": 1}),
    "attention_unet": (AttentionUNet, {"width": 8, "time_dim": 16}),
}


@pytest.mark.parametrize("name", ["unet", "adm"])
def test_remat_keeps_the_gradients_with_dropout(name):
    network, fields = NETWORKS[name]
    examples = jnp.arange(4)

    @jax.jit
    def gradients(params, for_dropout):
        return [jax.grad(loss)(params, remat, for_dropout) for remat in ((), (8, 4))]

    def loss(params, remat, for_dropout):
        model = network(1, 10, **fields, dropout=0.5, remat=remat)
        x = jax.random.normal(jax.random.key(1), (4, 8, 8, 1))
        options = {"train": True, "examples": examples, "rngs": {"dropout": for_dropout}}
        output = model.apply({"params": params}, x, jnp.ones(4), examples, **options)
        return jnp.sum(jnp.sin(output.estimate))

    params = jax.jit(lambda: init_params(network(1, 10, **fields), 0, 8))()
    # Parameters that say something: a fresh head would be silent.
    params = jax.tree.map(
        lambda p: p + 0.1 * jnp.sin(1.7 * jnp.arange(float(p.size))).reshape(p.shape), params
    )
    plain, *again = gradients(params, jax.random.key(0))
    other, *_ = gradients(params, jax.random.key(1))
    largest = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(plain))
    for found in again:
        for leaf, wanted in zip(jax.tree.leaves(found), jax.tree.leaves(plain)):
            assert_allclose(leaf, wanted, atol=1e-6 * largest)
    apart = (np.abs(a - b).max() for a, b in zip(*map(jax.tree.leaves, (plain, other))))
    assert max(apart) > 1e-2 * largest  # dropout it was


@pytest.mark.parametrize("name", NETWORKS)
def test_remat_stores_less_for_the_backward_pass(name):
    """In bytes, besides the parameters."""
    network, fields = NETWORKS[name]
    x, examples = jax.ShapeDtypeStruct((32, 8, 8, 1), jnp.float32), jnp.arange(32)
    params = jax.eval_shape(lambda: init_params(network(1, 10, **fields), 0, 8))
    kept = {}
    for remat in ((), (8,), (8, 4)):
        model = network(1, 10, **fields, remat=remat)

        def backward(params, x, model=model):
            options = {"train": True, "examples": examples}
            return jax.vjp(
                lambda params: model.apply(
                    {"params": params}, x, jnp.ones(32), examples, **options
                ),
                params,
            )[1]

        leaves = jax.tree.leaves(jax.eval_shape(backward, params, x))
        kept[remat] = sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)
        kept[remat] -= sum(leaf.size * 4 for leaf in jax.tree.leaves(params))
    assert kept[8, 4] < 0.8 * kept[8,] < 0.6 * kept[()]


@pytest.mark.parametrize("name", NETWORKS)
def test_sides_of_no_level_are_refused(name):
    network, fields = NETWORKS[name]
    message = r"remat=\(16,\) has 16, which is not .* a level: 8, 4.* --config.model.remat=8$"
    with pytest.raises(ValueError, match=message):
        network(1, 10, **fields, remat=(16,)).check(8)
    network(1, 10, **fields, remat=(8,)).check(8)  # as the error advises
    with pytest.raises(ValueError, match=r"model\.remat=x must be positive whole numbers"):
        network(1, 10, **fields, remat="x")
