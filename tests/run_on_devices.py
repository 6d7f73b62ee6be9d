"""Trains and samples a tiny model; `test_devices.py` starts this on different sets of devices.

python tests/run_on_devices.py OUT.npz DEVICES MICRO_BATCHES [COORDINATOR PROCESS_ID PROCESSES]
"""

import os
import sys

import quick

out, devices, micro_batches, *distributed = sys.argv[1:]
os.environ["XLA_FLAGS"] = quick.flags(int(devices))

import jax

if distributed:
    coordinator, process_id, processes = distributed
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(coordinator, int(processes), int(process_id))

import numpy as np
from tiny import tiny_config

from diffusion_jax import parallel
from diffusion_jax.data import batches
from diffusion_jax.runs import build
from diffusion_jax.runs.generator import Generator
from diffusion_jax.runs.train import make_step
from diffusion_jax.training import metrics as step_metrics
from diffusion_jax.training.state import init_state


def main() -> None:
    # A large epsilon: otherwise Adam divides rounding errors by gradients that are nearly 0.
    config = tiny_config(
        model__time_embedding="published",  # which listens to the place in the batch
        micro_batches=int(micro_batches),
        model__blocks="res",
        model__dropout=0.2,
        data__flip=True,
        optimizer__eps=1e-2,
        sampling__ddim__eta=1.0,
    )
    model, optimizer = build.make_model(config), build.make_optimizer(config)
    state = jax.jit(lambda: init_state(model, optimizer, 0, config.data.resolution))()
    state = parallel.replicate(state)
    # Before training, from parameters that are the same to the last bit.
    generator = Generator.from_config(config, batch_size=8)
    images, _ = generator(state.ema_params, np.arange(16, dtype=np.int32) % 11, seed=3)
    step = parallel.data_parallel(make_step(config))
    data = batches(
        build.open_source(config),
        batch_size=config.batch_size,
        seed=0,
        flip=config.data.flip,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )
    losses = []
    lowered = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, seconds, **_: lowered.append(event) if "jaxpr_to_mlir" in event else None
    )
    for _ in range(3):
        state, metrics = step(state, parallel.shard(next(data)))
        losses.append(step_metrics.means(metrics)["loss"])
        assert len(lowered) == 1, "the step is compiled once, for the first batch"
        for leaf in jax.tree.leaves(state):
            replicas = [np.asarray(shard.data) for shard in leaf.addressable_shards]
            assert len(replicas) == jax.local_device_count()
            assert all(np.array_equal(replica, replicas[0]) for replica in replicas)
    params = {
        f"{kind}/{jax.tree_util.keystr(path)}": np.asarray(leaf)
        for kind in ("params", "ema_params")
        for path, leaf in jax.tree_util.tree_leaves_with_path(getattr(state, kind))
    }
    np.savez(out, losses=losses, images=images, **params)


if __name__ == "__main__":
    main()
