"""The imported network against outputs of the PyTorch original on random weights."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from original_golden import FOLDER, arrays, checkpoint, labels_of, to_nhwc

from diffusion_jax.diffusion import guidance, parameterizations, schedules
from diffusion_jax.diffusion.parameterizations import denoiser_from_network
from diffusion_jax.models.layers.original import (
    original_frequencies,
    original_sinusoidal,
)


def run(imported, x_t, t, labels, **options):
    with jax.default_matmul_precision("highest"):
        network = jax.jit(partial(imported.model.apply, {"params": imported.params}, **options))
        return network(to_nhwc(x_t), jnp.asarray(t, jnp.int32), labels)


def check(output, noise, v):
    assert_allclose(output.estimate, to_nhwc(noise), atol=2e-5)
    assert_allclose(output.variance_fraction, to_nhwc(v), atol=2e-5)


@pytest.mark.parametrize(
    ("null", "suffix"), [(None, ""), (None, "_legacy"), (1, "_allnull"), (0, "_nonull")]
)
def test_conditional_network_equals_the_original(null, suffix):
    golden = arrays("odd")
    imported = checkpoint("odd", "published" if suffix == "_legacy" else "head")
    labels = labels_of(golden, golden["null"] if null is None else null, 7)
    output = run(imported, golden["x_t"], golden["t"], labels)
    check(output, golden["noise" + suffix], golden["v" + suffix])


@pytest.mark.parametrize("suffix", ["", "_legacy"])
def test_unconditional_network_with_attention_equals_the_original(suffix):
    golden = arrays("uncond_atn")
    imported = checkpoint("uncond_atn", "published" if suffix else "head")
    output = run(imported, golden["x_t"], golden["t"], None)
    check(output, golden["noise" + suffix], golden["v" + suffix])


def test_a_batch_of_one_equals_the_original():
    golden = arrays("odd")
    labels = jnp.asarray(golden["c"][1:2], jnp.int32)
    output = run(checkpoint("odd"), golden["x_t"][1:2], golden["t"][1:2], labels)
    check(output, golden["noise_b1"], golden["v_b1"])


def test_sin_is_published_in_even_rows():
    golden = arrays("odd")
    labels = labels_of(golden, golden["null"], 7)
    even = [0, 2]
    output = run(checkpoint("odd", "sin"), golden["x_t"], golden["t"], labels)
    assert_allclose(
        output.estimate[even, ...], to_nhwc(golden["noise_legacy"])[even, ...], atol=2e-5
    )


def test_guidance_keeps_the_row_of_every_example():
    golden = arrays("odd")
    imported = checkpoint("odd", "published")
    x_t, t = to_nhwc(golden["x_t"]), jnp.array([100, 51, 2], jnp.int32)
    labels = jnp.asarray(golden["c"], jnp.int32)
    schedule = schedules.make_schedule("cosine", 100, original_quirks=True)
    network = partial(imported.model.apply, {"params": imported.params})
    labeled = denoiser_from_network(network, parameterizations.eps())
    nulls = jnp.full_like(labels, 7)
    guided = jax.jit(guidance.classifier_free(labeled, labels, nulls, 2.0))(x_t, schedule.level(t))
    conditional = network(x_t, t, labels)
    null = network(x_t, t, nulls)
    assert_allclose(guided.eps, 3 * conditional.estimate - 2 * null.estimate, atol=1e-4)
    assert_allclose(guided.variance_fraction, conditional.variance_fraction, atol=1e-4)


def test_examples_state_the_row():
    golden = arrays("odd")
    imported = checkpoint("odd", "published")
    labels = labels_of(golden, golden["null"], 7)
    rows = [1, 2]
    output = run(
        imported,
        golden["x_t"][rows],
        golden["t"][rows],
        labels[jnp.array(rows)],
        examples=jnp.array(rows),
    )
    check(output, golden["noise_legacy"][rows], golden["v_legacy"][rows])


@pytest.mark.parametrize("name", ["odd", "uncond_atn"])
def test_time_embedding_of_the_models(name):
    golden = arrays(name)
    dim = golden["t_embedding"].shape[1]
    embedding = original_sinusoidal(jnp.asarray(golden["t"], jnp.int32), dim, "head")
    assert_allclose(embedding, golden["t_embedding"], atol=1e-7)


def test_time_embedding_has_the_bits_of_pytorch():
    golden = np.load(FOLDER / "time_embedding.npz")
    assert_array_equal(original_frequencies(512), golden["frequencies"])
    t = jnp.asarray(golden["timesteps"], jnp.int32)
    assert_allclose(original_sinusoidal(t, 512, "head"), golden["embedding"], atol=1e-7)


def test_sin_and_cos_by_row_and_by_column():
    t = jnp.array([3, 3, 3], jnp.int32)
    angles = 3 * original_frequencies(6)
    rows = original_sinusoidal(t, 6, "published")
    assert_allclose(rows, [np.sin(angles), np.cos(angles), np.sin(angles)], atol=1e-6)
    shifted = original_sinusoidal(t, 6, "published", jnp.array([1, 2, 3]))
    assert_allclose(shifted, [np.cos(angles), np.sin(angles), np.cos(angles)], atol=1e-6)
    assert_allclose(original_sinusoidal(t, 6, "sin"), [np.sin(angles)] * 3, atol=1e-6)
    columns = original_sinusoidal(t, 6, "head")
    assert_allclose(columns[:, ::2], [np.sin(angles)[::2]] * 3, atol=1e-6)
    assert_allclose(columns[:, 1::2], [np.cos(angles)[1::2]] * 3, atol=1e-6)
