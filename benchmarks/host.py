"""Host time of a training step, on 1, 2, 4 and 8 virtual devices of this machine.

python -m benchmarks.host

The network is trivial, so that the devices take little of the time. `dispatch` is the time until
the call of the step returns, `shard` the time to start the batch's transfer to the devices, and
`step` the total, including the wait for the result. `host` is the processor time of the calling
thread for shard and dispatch; virtual devices compute on the same cores.
"""

import json
import os
import subprocess
import sys

from absl import flags

from diffusion_jax.config.experiment import Experiment
from scripts.cli import app

DEVICES = flags.DEFINE_list("devices", "1,2,4,8", "Numbers of virtual devices, measured in turn.")
PER_DEVICE = flags.DEFINE_integer("per_device", 8, "Images on each device.", 1)
STEPS = flags.DEFINE_integer("steps", 200, "Steps of each measurement.", 1)
HERE = flags.DEFINE_bool("here", False, "Measure in this process, on its devices.")


def main() -> None:
    if HERE.value:
        print(json.dumps(measure_host(PER_DEVICE.value, STEPS.value)))
        return
    titles = f"{'dispatch ms':>13}{'shard ms':>10}{'host ms':>9}{'step ms':>9}"
    print(f"{'devices':>8}{'images':>8}{titles}")
    for devices in DEVICES.value:
        environment = {
            **os.environ,
            "JAX_PLATFORMS": "cpu",
            "NPROC": "16",
            "XLA_FLAGS": f"--xla_force_host_platform_device_count={int(devices)}",
        }
        command = [sys.executable, "-m", "benchmarks.host", "--here"]
        command += [f"--per_device={PER_DEVICE.value}", f"--steps={STEPS.value}"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        found = json.loads(done.stdout.splitlines()[-1])
        numbers = (found[name] for name in ("dispatch", "shard", "host", "step"))
        dispatch, shard, host, step = (1e3 * seconds for seconds in numbers)
        print(
            f"{devices:>8}{found['images']:>8}{dispatch:13.2f}{shard:10.2f}{host:9.2f}{step:9.2f}"
        )


def measure_host(per_device: int, steps: int) -> dict[str, float]:
    """Measures medians over the steps, in seconds."""
    import statistics
    import time

    import jax
    import numpy as np

    from configs import digits_dit
    from diffusion_jax import parallel
    from diffusion_jax.runs.train import init_train_state, make_sharding, parallel_step

    config = digits_dit.get_config()
    config.model.width, config.model.depth, config.model.num_heads = 8, 1, 2
    config.batch_size = per_device * jax.device_count()
    experiment = Experiment.from_config(config)
    sharding = make_sharding(experiment)
    state = sharding.init(lambda: init_train_state(experiment))
    step = parallel_step(experiment, sharding)
    images = np.zeros((config.batch_size, 8, 8, 1), np.uint8)
    batch = {"image": images, "label": np.zeros(config.batch_size, np.int32)}
    times: dict[str, list[float]] = {"shard": [], "dispatch": [], "host": [], "step": []}
    for _ in range(steps + 3):
        begin, used = time.perf_counter(), time.thread_time()
        sharded = parallel.shard(batch)
        there = time.perf_counter()
        state, metrics = step(state, sharded)
        returned, used = time.perf_counter(), time.thread_time() - used
        jax.block_until_ready((state, metrics))
        ends = (there, begin), (returned, there), (used, 0.0), (time.perf_counter(), begin)
        for name, (end, start) in zip(times, ends):
            times[name].append(end - start)
    found = {name: statistics.median(seconds[3:]) for name, seconds in times.items()}
    return found | {"images": config.batch_size}


if __name__ == "__main__":
    app.run(main)
