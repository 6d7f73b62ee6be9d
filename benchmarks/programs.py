"""Programs of a config, lowered without arrays for devices that need not exist here."""

from dataclasses import dataclass
from functools import partial

import jax
import numpy as np
from ml_collections import ConfigDict

from benchmarks.flops import count_flops, forward_flops
from diffusion_jax import parallel
from diffusion_jax.config.experiment import Experiment
from diffusion_jax.generation.sampler import Sampler
from diffusion_jax.runs.train import init_train_state, make_sharding, parallel_step
from diffusion_jax.training.state import init_params


@dataclass(frozen=True)
class Program:
    """A program that can be compiled.

    rows: numbers of images that an array may hold. parameters: shapes of the parameters.
    model_flops: FLOPs of one call, counted from the network; three forward passes in training.
    """

    lowered: jax.stages.Lowered
    rows: frozenset[int]
    parameters: list[tuple[int, ...]]
    model_flops: int


def training(config: ConfigDict, devices: list[jax.Device]) -> Program:
    """Lowers a training step, as in `runs.train`, for these devices."""
    count, side = len(devices), config.data.resolution
    rows = config.batch_size // count
    experiment = Experiment.from_config(config)
    sharding = make_sharding(experiment)
    state = jax.eval_shape(lambda: init_train_state(experiment))
    batch = {
        "image": jax.ShapeDtypeStruct((count, rows, side, side, config.model.channels), np.uint8),
        "label": jax.ShapeDtypeStruct((count, rows), np.int32),
    }
    step = parallel_step(experiment, sharding, devices)
    return Program(
        step.lower(sharding.shapes_on(state, count), batch),
        frozenset({rows, rows // config.micro_batches}),
        [leaf.shape for leaf in jax.tree.leaves(state.params)],
        3 * forward_flops(config, state.params) * rows,
    )


def sampling(config: ConfigDict, devices: list[jax.Device]) -> Program:
    """Lowers the sampling of a batch, as in `Sampler`, for one device."""
    rows = config.batch_size
    sampler = Sampler.from_experiment(Experiment.from_config(config), batch_size=rows)
    model, settings = sampler.model, sampler.guidance
    own = jax.eval_shape(lambda: init_params(model, config.seed, config.data.resolution))
    labels = jax.ShapeDtypeStruct((rows,), np.int32)
    condition = jax.eval_shape(lambda: model.example_condition(rows))
    batch = {"condition": labels if condition is None else condition, "inputs": {}, "index": labels}
    static, traced = sampler._split_arguments(
        settings, sampler.options, sampler.sampling_schedule, config.seed
    )
    traced, guide_params = jax.eval_shape(lambda: (traced, sampler.guide_params))
    params, sample = (own, guide_params), partial(sampler._sample, static)
    sharded = jax.tree.map(lambda x: jax.ShapeDtypeStruct((1, *x.shape), x.dtype), batch)
    return Program(
        parallel.map_batch_program(sample, devices).lower(params, traced, sharded),
        frozenset({rows, 2 * rows}),
        [leaf.shape for leaf in jax.tree.leaves(params)],
        count_flops(sample, params, traced, batch, unused=False),
    )
