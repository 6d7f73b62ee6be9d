import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from table_cases import CONDITIONED_ON

from diffusion_jax.config.schema import choose
from diffusion_jax.models import UNet
from diffusion_jax.models.layers.attention import (
    ClassAttention,
    WindowAttention,
    eca_kernel_size,
)
from diffusion_jax.models.layers.block_chain import BLOCKS, parse_blocks
from diffusion_jax.models.layers.block_interface import Conditioning
from diffusion_jax.models.layers.convolutions import WeightStandardizedConv
from diffusion_jax.models.layers.embeddings import LabelEmbedding, sinusoidal


def small_unet(blocks="res,conv,clsAtn,atn,chnAtn", **changes):
    options = {
        "channels": 3,
        "width": 8,
        "levels": 1,
        "blocks": blocks,
        "num_classes": 5,
        "time_dim": 16,
        "label_dim": 16,
        "window": 4,
    }
    return UNet(**(options | changes))


def inputs(batch=2, side=8):
    x = jax.random.normal(jax.random.key(0), (batch, side, side, 3))
    return x, jnp.arange(1, batch + 1) * 100, jnp.arange(batch) % 5


def randomized(model, *args, scale=0.3, **options):
    """Parameters among which no bias is zero and no norm is trivial."""
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), *args, **options))
    rng = np.random.default_rng(0)

    def fill(path, leaf):
        noise = scale * rng.standard_normal(leaf.shape, np.float32)
        return jnp.asarray(noise + (path[-1].key == "scale"))

    return jax.tree_util.tree_map_with_path(fill, shapes)


def conditioning(batch=2):
    time, label = jax.random.normal(jax.random.key(5), (2, batch, 16))
    return Conditioning(time=time, label=label, examples=jnp.arange(batch))


@pytest.mark.parametrize("quirks", [False, True])
@pytest.mark.parametrize("name", CONDITIONED_ON)
def test_a_block_depends_on_its_input_and_its_conditioning(name, quirks):
    block = choose(BLOCKS, name, "block")(8, original_quirks=quirks, window=4)
    x = jax.random.normal(jax.random.key(0), (2, 8, 8, 8))
    cond = conditioning()
    params = randomized(block, x, cond, train=False)
    apply = jax.jit(lambda x, cond: block.apply(params, x, cond, train=False))
    output = apply(x, cond)
    assert output.shape == x.shape
    assert jnp.abs(apply(x + 0.1, cond) - output).max() > 1e-3
    # The attention of the original's clsAtn sums to one.
    parts = CONDITIONED_ON[name] if (name, quirks) != ("clsAtn", True) else ()
    for part in ("time", "label"):
        changed = dataclasses.replace(cond, **{part: getattr(cond, part) + 0.5})
        difference = jnp.abs(apply(x, changed) - output).max()
        assert (difference > 1e-3) == (part in parts)


@pytest.mark.parametrize("quirks", [False, True])
def test_the_output_depends_on_image_time_and_class(quirks):
    model = small_unet(original_quirks=quirks)
    x, t, labels = inputs()
    params = randomized(model, x, t, labels)
    apply = jax.jit(model.apply)
    output = apply(params, x, t, labels)
    assert output.estimate.shape == output.variance_fraction.shape == x.shape
    assert output.estimate.dtype == jnp.float32
    for changed in ((x + 0.1, t, labels), (x, t + 1, labels), (x, t, labels + 1)):
        other = apply(params, *changed)
        assert jnp.abs(other.estimate - output.estimate).max() > 1e-3
        assert jnp.abs(other.variance_fraction - output.variance_fraction).max() > 1e-3
    alone = apply(params, *(jnp.concatenate([a[1:], a[1:]]) for a in (x, t, labels)))
    size = jnp.abs(output.estimate).max()
    assert_allclose(alone.estimate[0], output.estimate[1], atol=1e-5 * size)


@pytest.mark.parametrize("quirks", [False, True])
@pytest.mark.parametrize("blocks", ["res,atn,chnAtn", "conv,res"])
def test_models_without_classes_have_no_label_embedding(blocks, quirks):
    model = small_unet(blocks, num_classes=0, original_quirks=quirks)
    x, t, _ = inputs()
    params = randomized(model, x, t)
    assert "label_embedding" not in params["params"]
    assert jnp.all(jnp.isfinite(jax.jit(model.apply)(params, x, t).estimate))


def test_original_quirks_keep_the_parameters():
    shapes = [
        jax.eval_shape(small_unet(original_quirks=quirks).init, jax.random.key(0), *inputs())
        for quirks in (False, True)
    ]
    assert shapes[0] == shapes[1]


def test_bfloat16_keeps_parameters_and_output_in_float32():
    args = inputs()
    model = small_unet(dtype="bfloat16")
    params = randomized(model, *args, scale=0.1)
    output = jax.jit(model.apply)(params, *args).estimate
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    exact = jax.jit(small_unet().apply)(params, *args).estimate
    assert output.dtype == jnp.float32
    difference = jnp.sqrt(jnp.mean((output - exact) ** 2) / jnp.mean(exact**2))
    assert 1e-5 < difference < 0.03


def test_the_null_label_is_the_zero_vector():
    embedding = LabelEmbedding(num_classes=5, dim=16)
    labels = jnp.arange(6)
    params = embedding.init(jax.random.key(0), labels)
    rows = embedding.apply(params, labels)
    assert jnp.all(rows[5] == 0)
    assert_allclose(rows[:5], params["params"]["table"])


def test_sinusoidal_embedding():
    embedding = sinusoidal(jnp.array([0, 1, 1000]), 4)
    expected = [[0, 0, 1, 1], *([f(t * w) for f in (math.sin, math.cos) for w in (1, 0.01)] for t in (1, 1000))]  # noqa: E501  # fmt: skip
    assert_allclose(embedding, expected, atol=1e-4)


@pytest.mark.parametrize("channels", [8, 24])  # on 64 pixels; few are not folded into the kernel
def test_class_attention_mixes_channels_by_class(channels):
    """Against the formula written out with loops; the reference's is the same without mixing."""
    x = np.random.default_rng(0).normal(size=(2, 8, 8, channels)).astype(np.float32)
    cond = conditioning()
    label = cond.label
    block = ClassAttention(channels)
    variables = randomized(block, jnp.asarray(x), cond, train=False)
    p, label = jax.tree.map(np.asarray, (variables["params"], label))

    def norm(h, scale, bias):
        groups = np.asarray(h).reshape(2, -1, channels // 4, 4)
        mean, var = groups.mean((1, 3), keepdims=True), groups.var((1, 3), keepdims=True)
        return ((groups - mean) / np.sqrt(var + 1e-5)).reshape(h.shape) * scale + bias

    h = norm(x, **p["norm_in"]["norm"])
    query = label @ p["query"]["kernel"] + p["query"]["bias"]
    key = label @ p["key"]["kernel"] + p["key"]["bias"]
    mixed = np.zeros_like(h)
    for b in range(2):
        for c in range(channels):
            weights = np.exp([query[b, c] * key[b, d] for d in range(channels)])
            mixed[b, :, :, c] = h[b, :, :, c] + h[b] @ (weights / weights.sum())
    for quirks, middle in ((False, mixed), (True, h)):
        out = middle @ p["out"]["kernel"][0, 0] + p["out"]["bias"]
        expected = x + norm(out, **p["norm_out"]["norm"])
        block = ClassAttention(channels, original_quirks=quirks)
        assert_allclose(
            block.apply(variables, jnp.asarray(x), cond, train=False), expected, atol=2e-5
        )


def test_class_attention_has_the_same_initialization_at_any_size():
    block, cond = ClassAttention(24), conditioning()

    def start(side):
        return block.init(jax.random.key(0), jnp.ones((2, side, side, 24)), cond, train=False)

    jax.tree.map(assert_array_equal, start(4), start(8))  # the larger one is folded


def test_class_attention_mixes_from_the_start():
    """At initialization, at the width and with the embedding of an ImageNet model."""
    embedding = LabelEmbedding(num_classes=1000, dim=512)
    labels = jnp.array([3, 700])
    label = embedding.apply(embedding.init(jax.random.key(0), labels), labels)
    cond = Conditioning(time=None, label=label, examples=None)
    x = jnp.repeat(jax.random.normal(jax.random.key(1), (1, 8, 8, 128)), 2, axis=0)
    block = ClassAttention(128)
    params = block.init(jax.random.key(2), x, cond, train=False)
    branch = block.apply(params, x, cond, train=False) - x
    assert jnp.abs(branch[0] - branch[1]).max() > 1e-2 * jnp.abs(branch).max()
    spectrum = jnp.linalg.svd(branch[0].reshape(64, 128), compute_uv=False)
    assert spectrum[10] > 0.1 * spectrum[0]


def window_attention(side, window, heads=2):
    x = jax.random.normal(jax.random.key(0), (2, side, side, 8))
    cond = Conditioning(time=None, label=None, examples=None)
    block = WindowAttention(8, window=window, num_heads=heads)
    variables = randomized(block, x, cond, train=False)
    return x, variables, lambda x: block.apply(variables, x, cond, train=False)


def test_window_attention_equals_attention_written_out():
    x, variables, apply = window_attention(side=8, window=4)
    p = jax.tree.map(np.asarray, variables["params"])
    groups = np.asarray(x).reshape(2, 64, 2, 4)
    mean, var = groups.mean((1, 3), keepdims=True), groups.var((1, 3), keepdims=True)
    h = ((groups - mean) / np.sqrt(var + 1e-5)).reshape(x.shape)
    h = h * p["norm"]["norm"]["scale"] + p["norm"]["norm"]["bias"]
    key, query, value = np.split(h @ p["kqv"]["kernel"][0, 0] + p["kqv"]["bias"], 3, axis=-1)
    out = np.zeros_like(h)
    for b in range(2):
        for top in (0, 4):
            for left in (0, 4):
                for head in (slice(0, 4), slice(4, 8)):
                    place = (b, slice(top, top + 4), slice(left, left + 4), head)
                    q, k, v = (m[place].reshape(16, 4) for m in (query, key, value))
                    weights = np.exp(q @ k.T / math.sqrt(4))
                    weights /= weights.sum(axis=1, keepdims=True)
                    out[place] = (weights @ v).reshape(4, 4, 4)
    expected = np.asarray(x) + out @ p["out"]["kernel"][0, 0] + p["out"]["bias"]
    assert_allclose(apply(x), expected, atol=2e-5)


def test_pixels_attend_within_their_window_only():
    """Changes that keep the norm: two pixels of one window are exchanged."""
    x, _, apply = window_attention(side=8, window=4)
    swapped = x.at[:, 0, 0].set(x[:, 1, 2]).at[:, 1, 2].set(x[:, 0, 0])
    difference = jnp.abs(apply(swapped) - apply(x)).max(axis=(0, 3))
    assert difference[0, 0] > 1e-3
    assert difference[4:].max() < 1e-5
    assert difference[:, 4:].max() < 1e-5


def test_a_map_smaller_than_the_window_is_one_window():
    x, variables, apply = window_attention(side=4, window=16)
    cond = Conditioning(time=None, label=None, examples=None)
    same = WindowAttention(8, window=4, num_heads=2).apply(variables, x, cond, train=False)
    assert_allclose(apply(x), same)


def test_standardized_kernels_ignore_scale_and_offset():
    x, _, _ = inputs()
    layer = WeightStandardizedConv(4, jnp.float32)
    params = randomized(layer, x)
    moved = jax.tree.map(lambda leaf: 100 * leaf + 7 if leaf.ndim == 4 else leaf, params)
    assert_allclose(layer.apply(moved, x), layer.apply(params, x), rtol=2e-3, atol=2e-3)


def test_a_dropout_mask_follows_the_example_index():
    model = small_unet("res,conv", dropout=0.5)
    x, t, labels = inputs()
    params = randomized(model, x, t, labels)
    apply = jax.jit(
        lambda x, t, labels, examples: (
            model.apply(
                params,
                x,
                t,
                labels,
                train=True,
                examples=examples,
                rngs={"dropout": jax.random.key(0)},
            ).estimate
        )
    )
    both = apply(x, t, labels, jnp.array([5, 6]))
    size = jnp.abs(both).max()
    turned = apply(x[::-1], t[::-1], labels[::-1], jnp.array([6, 5]))[::-1]
    assert_allclose(turned, both, atol=1e-5 * size)
    other = apply(x, t, labels, jnp.array([5, 7]))
    assert_allclose(other[0], both[0], atol=1e-5 * size)
    assert jnp.abs(other[1] - both[1]).max() > 1e-3
    still = jax.jit(model.apply)(params, x, t, labels).estimate
    assert jnp.abs(still - both).max() > 1e-3


def test_kernel_sizes_of_channel_attention():
    sizes = {3: 1, 6: 1, 8: 3, 96: 3, 128: 5, 1536: 5, 2048: 7}
    assert {channels: eca_kernel_size(channels) for channels in sizes} == sizes


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        ("res,rse", "'rse'.*known blocks: .*chnAtn"),
        ("", "''"),
        ("chnAtn,res", "start with one of: .*conv"),
    ],
)
def test_wrong_blocks_are_named(blocks, message):
    with pytest.raises(ValueError, match=message):
        parse_blocks(blocks)


def test_labels_must_match_the_model():
    x, t, labels = inputs()
    for model, given in (
        (small_unet("res"), None),
        (small_unet("res", num_classes=0), labels),
        (small_unet("res,clsAtn", num_classes=0), None),
    ):
        with pytest.raises(ValueError, match="num_classes"):
            jax.eval_shape(model.init, jax.random.key(0), x, t, given)
