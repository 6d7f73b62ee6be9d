"""Speed of sampling with fresh parameters, at the config's steps and guidance.

python -m benchmarks.sample --config configs/res_res.py --batch 8 --dtype bfloat16
"""

import jax
import numpy as np

from benchmarks import measure
from benchmarks.flops import forward_flops
from diffusion_jax.config.experiment import Experiment
from scripts.cli import app


def main() -> None:
    from diffusion_jax import parallel
    from diffusion_jax.generation.sampler import Sampler
    from diffusion_jax.training.state import init_params

    config = measure.config_from_flags()
    experiment = Experiment.from_config(config)
    model, sampling = experiment.model, config.sampling
    params = jax.jit(lambda: init_params(model, config.seed, config.data.resolution))()
    params = parallel.replicate(params)
    sampler = Sampler.from_experiment(experiment, batch_size=config.batch_size)
    labels = np.arange(config.batch_size, dtype=np.int32) % (config.model.num_classes or 1)

    def call() -> object:
        return sampler(params, labels, seed=0)[0]

    guided = sampling.guidance > 0 and config.model.num_classes > 0
    steps = experiment.sampling.sampling_schedule.num_steps
    forward = forward_flops(config, params)
    flops = forward * config.batch_size * steps * (2 if guided else 1)
    timing = measure.seconds_per_call(call)
    measure.report("sample", config, timing, flops, sampling_steps=steps, guided=guided)


if __name__ == "__main__":
    app.run(main)
