"""Precomputed parts of networks, and the work left in the sampling loop."""

import re
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from tiny import tiny_config, tiny_transformer_config

from benchmarks import loop_body
from diffusion_jax.config.experiment import Experiment
from diffusion_jax.diffusion.parameterizations import denoiser_from_network
from diffusion_jax.diffusion.sampling_schedule import map_c_noises
from diffusion_jax.diffusion.schedules import make_schedule
from diffusion_jax.diffusion.types import Level, NetworkOutput
from diffusion_jax.generation.prepared_denoiser import DiffusionModel, Precomputed, PreparedDenoiser
from diffusion_jax.models.layers.attention import ClassAttention
from diffusion_jax.models.layers.block_interface import Conditioning
from diffusion_jax.models.network import Network
from diffusion_jax.training.state import init_params

# The compiler's own ways of moving what is repeated out of a loop: more on CPUs than on GPUs.
MOTION = "while-loop-invariant-code-motion,while-loop-expensive-invariant-code-motion"
EXAMPLES = jnp.array([3, 4, 6, 9])
LABELS = jnp.array([1, 9, 10, 0])  # 10 is the null label
X = jax.random.normal(jax.random.key(0), (4, 8, 8, 1))


def test_repeated_work_is_found():
    def loop(x, kernel, levels, standardize):
        def body(x, level):
            w = kernel - jnp.mean(kernel, 0, keepdims=True) if standardize else kernel
            return jnp.tanh(x @ w) * level, None

        return jax.lax.scan(body, x, levels)[0]

    arguments = jnp.ones((4, 8)), jnp.ones((8, 8)), jnp.ones(5)

    def repeated(standardize):
        lowered = jax.jit(loop, static_argnums=3).lower(*arguments, standardize)
        program = lowered.compile({"xla_disable_hlo_passes": MOTION}).as_text()
        return {line.opcode for line in loop_body.repeated(program)}

    assert repeated(standardize=False) == set()
    assert {"reduce", "subtract"} <= repeated(standardize=True)


def test_the_loop_of_a_unet_repeats_nothing():
    config = tiny_config(model__width=16, model__blocks="res,conv,clsAtn", model__dtype="bfloat16")
    found = loop_body.repeated(loop_body.sampling_program(config, 16, MOTION))
    # For want of bfloat16 convolutions on a CPU the compiler itself, in no scope, widens kernels.
    assert [line for line in found if line.scope or line.opcode != "convert"] == []


@pytest.mark.parametrize("quirks", [True, False])
def test_original_quirks_skip_the_idle_queries_and_keys_of_class_attention(quirks):
    block = ClassAttention(8, original_quirks=quirks)
    inputs = jnp.ones((4, 8, 8, 8)), Conditioning(jnp.ones((4, 3)), jnp.ones((4, 3)), None)
    params = jax.eval_shape(lambda: block.init(jax.random.key(0), *inputs, train=False))
    lowered = jax.jit(lambda params, *inputs: block.apply(params, *inputs, train=False)).lower(
        params, *inputs
    )
    program = loop_body.parse(lowered.compile().as_text())
    computed = {
        part
        for part in ("query", "key", "out")
        for lines in program.values()
        for line in lines
        if f"/{part}/dot_general" in line.rest or f"/{part}/conv_general" in line.rest
    }
    assert computed == ({"out"} if quirks else {"query", "key", "out"})


def test_a_deterministic_solver_skips_the_variance_head():
    config = tiny_config(model__blocks="res", sampling__solver="heun")
    program = loop_body.parse(loop_body.sampling_program(config, 16))
    scopes = [line.scope for lines in program.values() for line in lines]
    assert any("noise_head" in scope for scope in scopes)
    assert not any("variance_head" in scope for scope in scopes)


def test_the_loop_of_a_transformer_repeats_only_the_sum_of_embeddings_and_its_layers():
    config = tiny_transformer_config(
        sampling__solver="heun", sampling__guidance_low=0.1, model__dtype="bfloat16"
    )
    found = loop_body.repeated(loop_body.sampling_program(config, 16, MOTION))
    places = {re.split(r"DiT\.forward\)?/", line.scope)[-1].rpartition("/")[0] for line in found}
    assert {"block_0/modulation", "head_modulation"} <= places
    assert places <= {"", "jit(silu)", "block_0", "block_0/modulation", "head_modulation"}


CONFIGS = {
    "corrected": tiny_config(model__blocks="conv,clsAtn", model__width=16),
    "original": tiny_config(
        model__blocks="res",
        original_quirks=True,
        model__time_embedding="published",
        model__num_classes=0,
    ),
    "transformer": tiny_transformer_config(),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_precomputation_keeps_the_prediction(name):
    trained = DiffusionModel.from_experiment(Experiment.from_config(CONFIGS[name]))
    model, schedule = trained.model, make_schedule("cosine", 1000)
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(lambda: init_params(model, 0, 8))
    params = jax.tree.map(lambda leaf: rng.normal(0, 0.5, leaf.shape).astype(np.float32), shapes)
    labels = LABELS if trained.is_conditional else None
    levels = schedule.level(jnp.array([900, 17]))

    def second(levels):
        return jax.tree.map(lambda row: row[1], levels)

    def plain(params):
        def network(x, c_noise, condition):
            return model.apply({"params": params}, x, c_noise, condition, examples=EXAMPLES)

        denoiser = denoiser_from_network(network, trained.parameterization)
        return denoiser(X, second(levels), labels)

    def precompute(params):
        network = PreparedDenoiser(trained, params, EXAMPLES, X.shape[1:])
        levels_precomputed = replace(levels, c_noise=network.prepare_c_noises(levels.c_noise))
        return network.denoiser(X, second(levels_precomputed), network.prepare_condition(labels))

    expected, found = jax.jit(plain)(params), jax.jit(precompute)(params)
    for one, other in zip(jax.tree.leaves(expected), jax.tree.leaves(found), strict=True):
        assert_allclose(other, one, atol=2e-5 * np.abs(one).max())


def test_a_fresh_network_has_parameters_alone():
    model = DiffusionModel.from_experiment(Experiment.from_config(CONFIGS["corrected"])).model
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), X, jnp.ones(4), LABELS))
    assert set(shapes) == {"params"}


class Plain(Network):
    """A network without precomputed parts."""

    def forward(self, x, c_noise, condition, train, examples):
        factor = self.param("factor", lambda _: jnp.ones(()))
        shift = c_noise + condition.astype(jnp.float32)
        return NetworkOutput(x * factor + shift[:, None, None, None])


def test_a_network_without_precomputation_is_sampled():
    config = tiny_transformer_config()
    trained = replace(
        DiffusionModel.from_experiment(Experiment.from_config(config)), model=Plain(1, 10)
    )
    network = PreparedDenoiser(trained, {"factor": jnp.asarray(3.0)}, EXAMPLES, X.shape[1:])
    c_noise = jax.tree.map(lambda row: row[0], network.prepare_c_noises(jnp.array([2.0])))
    level = Level(jnp.asarray(0.6), jnp.asarray(0.8), c_noise)
    prediction = network.denoiser(X, level, network.prepare_condition(LABELS))
    assert_allclose(
        prediction.eps, 3 * X + (2.0 + LABELS.astype(jnp.float32))[:, None, None, None], rtol=1e-6
    )


def test_levels_of_coefficients_have_precomputed_activations_too():
    sampling_schedule = make_schedule("edm").sampling_schedule(3)
    coefficients = {"between": Level(np.ones(3), np.arange(3.0), np.array([6.0, 7.0, 8.0]))}
    converted, coefficients = map_c_noises(
        (sampling_schedule, coefficients),
        lambda c_noise: Precomputed(c_noise, {"double": 2 * c_noise}),
    )
    now, next = converted.pairs()
    between = coefficients["between"]
    assert_array_equal(between.c_noise.activations["double"], [12, 14, 16])
    assert_array_equal(now.c_noise.activations["double"], 2 * sampling_schedule.levels.c_noise[:-1])
    assert_array_equal(between.sigma, [0, 1, 2])
    assert_array_equal(next.sigma, sampling_schedule.levels.sigma[1:])
