"""Completeness of the tables of networks and blocks, and errors that name a missing step."""

import dataclasses
import inspect
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from small_networks import SMALL_NETWORKS

from diffusion_jax.config.schema import model_section
from diffusion_jax.models import MODELS, UNet
from diffusion_jax.models.layers.block_chain import BLOCKS
from diffusion_jax.models.layers.block_interface import Block, Conditioning
from diffusion_jax.models.network import Network

CHOICES = Path(__file__).parents[2] / "docs" / "choices.md"


@pytest.mark.parametrize("name", [*MODELS, *BLOCKS])
def test_docs_have_a_row(name):
    rows = re.findall(r"^\| `(\w+)`", CHOICES.read_text(), re.M)
    assert name in rows, f"add a row `{name}` to docs/choices.md"


@pytest.mark.parametrize("name", MODELS)
def test_a_network_has_a_small_version_and_defaults(name):
    assert name in SMALL_NETWORKS, f"add {name!r} to tests/small_networks.py"
    without = [
        field
        for field, parameter in inspect.signature(MODELS[name]).parameters.items()
        if parameter.default is parameter.empty and field not in ("channels", "num_classes")
    ]
    assert not without, f"{MODELS[name].__name__}.{without[0]} needs a default"


@pytest.mark.parametrize("name", BLOCKS)
def test_a_block_has_defaults(name):
    without = [
        field.name
        for field in dataclasses.fields(BLOCKS[name])
        if field.default is dataclasses.MISSING and field.name != "features"
    ]
    assert not without, f"{BLOCKS[name].__name__}.{without[0]} needs a default"


def test_a_class_without_its_method_is_named():
    class Gate(Block):
        pass

    class Stack(Network):
        pass

    x, cond = jnp.ones((1, 8, 8, 3)), Conditioning(time=None, label=None, examples=None)
    with pytest.raises(NotImplementedError, match="Stack must implement `forward`"):
        jax.eval_shape(Stack(3, 0).init, jax.random.key(0), x, jnp.ones(1))
    with pytest.raises(NotImplementedError, match="Gate must implement `__call__`"):
        jax.eval_shape(lambda x: Gate(3).init(jax.random.key(0), x, cond, train=False), x)


def test_names_without_a_table_line_are_named():
    with pytest.raises(ValueError, match=r"'gate' in blocks='res,gate'; known blocks: res, conv"):
        UNet(3, 0, blocks="res,gate").check(64)
    with pytest.raises(ValueError, match=r"model\.name=stack must be one of unet, dit"):
        model_section("stack")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("width", 0, "model.width=0 must be at least 1"),
        ("width", 8.0, "model.width=8.0 must be of type int"),
        ("width", True, "model.width=True must be of type int"),
        ("dropout", 1.0, r"model.dropout=1.0 must be in \[0, 1\)"),
        ("dropout", "x", "model.dropout=x must be of type float"),
        ("blocks", 3, "model.blocks=3 must be of type str"),
        ("dtype", "float16", "model.dtype=float16 must be float32 or bfloat16"),
        ("remat", [64], r"model.remat=\[64\] must be positive whole numbers such as \(16, 8\)"),
        ("remat", (64, 0), r"model.remat=\(64, 0\) must be positive whole numbers"),
    ],
)
def test_a_constructor_names_the_field_and_the_allowed_values(field, value, message):
    with pytest.raises(ValueError, match=message):
        UNet(3, 0, **{field: value})
