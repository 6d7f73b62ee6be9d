"""The programs of a config, lowered for devices that need not be here, without any arrays."""

from dataclasses import dataclass
from functools import partial

import jax
import numpy as np
from ml_collections import ConfigDict

from benchmarks.flops import count_flops, forward_flops
from diffusion_jax import parallel
from diffusion_jax.config.experiment import Experiment
from diffusion_jax.generation.sampler import Sampler
from diffusion_jax.runs.train import compile_step, init_experiment, make_sharding
from diffusion_jax.training.state import init_params


@dataclass(frozen=True)
class Program:
    """A program that can be compiled.

    rows: how many images one of its arrays may hold. parameters: their shapes. model_flops: of one
    call, counted from the network; for training three forward passes.
    """

    lowered: jax.stages.Lowered
    rows: frozenset[int]
    parameters: list[tuple[int, ...]]
    model_flops: int


def training(config: ConfigDict, devices: list[jax.Device]) -> Program:
    """A training step, as `runs.train` runs it on these devices."""
    count, side = len(devices), config.data.resolution
    rows = config.batch_size // count
    experiment = Experiment.from_config(config)
    sharding = make_sharding(experiment)
    state = jax.eval_shape(lambda: init_experiment(experiment))
    batch = {
        "image": jax.ShapeDtypeStruct((count, rows, side, side, config.model.channels), np.uint8),
        "label": jax.ShapeDtypeStruct((count, rows), np.int32),
    }
    step = compile_step(experiment, sharding, devices)
    return Program(
        step.lower(sharding.shapes_on(state, count), batch),
        frozenset({rows, rows // config.micro_batches}),
        [leaf.shape for leaf in jax.tree.leaves(state.params)],
        3 * forward_flops(config, state.params) * rows,
    )


def sampling(config: ConfigDict, devices: list[jax.Device]) -> Program:
    """All steps of drawing a batch, as `Generator` runs them on one device."""
    rows = config.batch_size
    generator = Sampler.from_experiment(Experiment.from_config(config), batch_size=rows)
    model, settings = generator.model, generator.settings
    own = jax.eval_shape(lambda: init_params(model, config.seed, config.data.resolution))
    labels = jax.ShapeDtypeStruct((rows,), np.int32)
    condition = jax.eval_shape(lambda: model.example_condition(rows))
    batch = {"condition": labels if condition is None else condition, "inputs": {}, "index": labels}
    fixed, numbers = generator._numbers(settings, generator.options, generator.path, config.seed)
    numbers, of_guides = jax.eval_shape(lambda: (numbers, generator.guide_params))
    params, draw = (own, of_guides), partial(generator._draw, fixed)
    sharded = jax.tree.map(lambda x: jax.ShapeDtypeStruct((1, *x.shape), x.dtype), batch)
    return Program(
        parallel.spread_program(draw, devices).lower(params, numbers, sharded),
        frozenset({rows, 2 * rows}),
        [leaf.shape for leaf in jax.tree.leaves(params)],
        count_flops(draw, params, numbers, batch, unused=False),
    )
