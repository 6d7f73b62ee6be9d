"""Speed of the training step, data loading left out.

python -m benchmarks.train_step --config configs/res_res.py --batch 8 --dtype bfloat16
"""

import numpy as np

from benchmarks import measure
from benchmarks.flops import forward_flops
from diffusion_jax.config.experiment import Experiment
from scripts.cli import app


def main() -> None:
    from diffusion_jax import parallel
    from diffusion_jax.runs.train import init_train_state, make_sharding, parallel_step

    config = measure.config_from_flags()
    experiment = Experiment.from_config(config)
    parallel.check_batch_size(config.batch_size, config.micro_batches)
    side, channels = config.data.resolution, config.model.channels
    sharding = make_sharding(experiment)
    state = sharding.init(lambda: init_train_state(experiment))
    step = parallel_step(experiment, sharding)

    rng = np.random.default_rng(0)
    classes = config.model.num_classes or 1
    batch = {
        "image": rng.integers(256, size=(config.batch_size, side, side, channels), dtype=np.uint8),
        "label": rng.integers(classes, size=config.batch_size, dtype=np.int32),
    }
    batch = parallel.shard(batch)

    def call() -> object:
        nonlocal state
        state, metrics = step(state, batch)
        return metrics

    forward = forward_flops(config, state.params)
    timing = measure.seconds_per_call(call)
    flops = 3 * forward * config.batch_size
    measure.report("train_step", config, timing, flops, forward_gflops_per_image=forward / 1e9)


if __name__ == "__main__":
    app.run(main)
