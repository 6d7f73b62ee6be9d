"""Trains and samples a tiny model; `test_devices.py` starts this on different sets of devices.

python tests/run_on_devices.py OUT DEVICES CASE,CASE,... [WORKDIR COORDINATOR ID PROCESSES]

A case is MICRO_BATCHES-SHARD_STATE, such as 4-0; its results are OUT/4-0.npz. With a workdir, a
run is trained there for two steps, and resumed for one.
"""

import os
import sys
from pathlib import Path

import quick

out, devices, cases, *distributed = sys.argv[1:]
os.environ["XLA_FLAGS"] = quick.flags(int(devices))

import jax

if distributed:
    workdir, coordinator, process_id, processes = distributed
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(coordinator, int(processes), int(process_id))

import numpy as np
from tiny import tiny_config, tiny_transformer_config, train

from diffusion_jax import parallel
from diffusion_jax.config.experiment import Experiment
from diffusion_jax.data import batches
from diffusion_jax.generation.sampler import Sampler
from diffusion_jax.runs import datasets
from diffusion_jax.runs.train import init_train_state, make_sharding, parallel_step
from diffusion_jax.training import metrics as step_metrics


def run_case(micro_batches: int, shard_state: bool) -> dict[str, np.ndarray]:
    """Returns the results of three steps, and samples of the initial parameters, by name."""
    # A large epsilon: otherwise Adam divides rounding errors by gradients that are nearly 0.
    config = tiny_config(
        model__time_embedding="published",  # depends on the place in the batch
        micro_batches=micro_batches,
        shard_state=shard_state,
        ema__name="power",
        ema__power__second_sigma_rel=0.1,
        optimizer__clip_norm=0.3,
        model__blocks="res",
        model__dropout=0.2,
        data__flip=True,
        optimizer__eps=1e-2,
        sampling__ddim__eta=1.0,
    )
    sharding = make_sharding(Experiment.from_config(config))
    state = sharding.init(lambda: init_train_state(Experiment.from_config(config)))
    # Before training, from parameters that are the same to the last bit.
    sampler = Sampler.from_experiment(Experiment.from_config(config), batch_size=8)
    images, _ = sampler(sharding.ema_params(state), np.arange(16, dtype=np.int32) % 11, seed=3)
    step = parallel_step(Experiment.from_config(config), sharding)
    data = batches(
        datasets.open_source(config),
        batch_size=config.batch_size,
        seed=0,
        flip=config.data.flip,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )
    losses, norms = [], []
    lowered = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, seconds, **_: lowered.append(event) if "jaxpr_to_mlir" in event else None
    )
    for _ in range(3):
        state, metrics = step(state, parallel.shard(next(data)))
        means = step_metrics.means(metrics)
        losses.append(means["loss"])
        norms.append(means["gradient_norm"])
        assert len(lowered) == 1, "the step is compiled once, for the first batch"
        for leaf in jax.tree.leaves(state if not config.shard_state else state.params):
            replicas = [np.asarray(shard.data) for shard in leaf.addressable_shards]
            assert len(replicas) == jax.local_device_count()
            assert all(np.array_equal(replica, replicas[0]) for replica in replicas)
    if config.shard_state:
        for leaf in jax.tree.leaves((state.ema_params, state.second_ema_params)):
            assert leaf.shape[0] == jax.local_device_count()
            assert {shard.data.shape[0] for shard in leaf.addressable_shards} == {1}
    state = jax.device_get(sharding.unshard(state))
    again = jax.device_get(sharding.unshard(sharding.place(state)))
    jax.tree.map(np.testing.assert_array_equal, again, state)
    params = {
        f"{kind}/{jax.tree_util.keystr(path)}": np.asarray(leaf)
        for kind in ("params", "ema_params", "second_ema_params", "opt_state")
        for path, leaf in jax.tree_util.tree_leaves_with_path(getattr(state, kind))
    }
    return {"losses": losses, "norms": norms, "images": images} | params


def main() -> None:
    for case in cases.split(","):
        micro_batches, shard_state = map(int, case.split("-"))
        np.savez(Path(out) / f"{case}.npz", **run_case(micro_batches, bool(shard_state)))
    if distributed:
        for steps in (2, 3):
            train(tiny_transformer_config(steps=steps, log_every=1, batch_size=4), Path(workdir))


if __name__ == "__main__":
    main()
