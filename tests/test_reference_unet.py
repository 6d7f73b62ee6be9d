"""Reference behaviour: outputs of the PyTorch original on random weights, every block type."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference_model import read_state_dict, to_params

from diffusion_jax.models import UNet
from diffusion_jax.models.embeddings import reference_frequencies, reference_sinusoidal

GOLDEN = Path(__file__).parent / "golden" / "reference_unet"
MODELS = {
    "odd": UNet(
        channels=1,
        width=12,
        growth=2,
        levels=1,
        blocks="res,conv,clsAtn,chnAtn",
        time_dim=24,
        label_dim=20,
        num_classes=7,
        behaviour="reference",
    ),
    "uncond_atn": UNet(
        channels=3,
        width=8,
        levels=3,
        blocks="res,atn,chnAtn",
        time_dim=32,
        num_classes=0,
        behaviour="reference",
    ),
}


def to_nhwc(images):
    return jnp.asarray(images).transpose(0, 2, 3, 1)


@pytest.mark.parametrize("name", MODELS)
def test_network_equals_the_pytorch_original(name):
    golden = np.load(GOLDEN / f"{name}.npz")
    model = MODELS[name]
    state = read_state_dict(GOLDEN / f"{name}.pkl")
    params = to_params(state, model.blocks.split(","), model.levels)
    labels = None
    if model.num_classes:
        labels = jnp.where(golden["null"] == 1, model.num_classes, golden["c"]).astype(jnp.int32)
    with jax.default_matmul_precision("highest"):
        output = jax.jit(model.apply)(
            {"params": params}, to_nhwc(golden["x_t"]), jnp.asarray(golden["t"], jnp.int32), labels
        )
    np.testing.assert_allclose(output.noise, to_nhwc(golden["noise"]), atol=2e-5)
    np.testing.assert_allclose(output.variance_fraction, to_nhwc(golden["v"]), atol=2e-5)


def test_time_embedding_has_the_bits_of_pytorch():
    golden = np.load(GOLDEN / "time_embedding.npz")
    np.testing.assert_array_equal(reference_frequencies(512), golden["frequencies"])
    embedding = reference_sinusoidal(jnp.asarray(golden["timesteps"], jnp.int32), 512)
    np.testing.assert_allclose(embedding, golden["embedding"], atol=1e-6)
