"""Float32 error of a config's network on this device, relative to the CPU.

python -m benchmarks.parity --config configs/res_res.py --batch 4

Products are computed in full float32 ("highest") and in the default precision, which on a GPU is
TF32. Errors are relative to the largest value of the CPU's result.
"""

import json
from pathlib import Path

import jax
import numpy as np
from absl import flags

from benchmarks import measure
from diffusion_jax.config.experiment import Experiment, make_model
from scripts.cli import app

flags.set_default(measure.DTYPE, "float32")


def main() -> None:
    from diffusion_jax.training.state import init_params

    config = measure.config_from_flags()
    Experiment.from_config(config)
    model, side, rows = make_model(config), config.data.resolution, config.batch_size
    device, host = jax.devices()[0], jax.devices("cpu")[0]
    generator = np.random.default_rng(0)
    x = generator.standard_normal((rows, side, side, model.channels), np.float32)
    c_noise = generator.integers(1, 1000, rows).astype(np.float32)
    labels = np.arange(rows, dtype=np.int32) % model.num_classes if model.num_classes else None
    with jax.default_device(host):
        params = jax.jit(lambda: init_params(model, config.seed, side))()

    def output(where: jax.Device, precision: str) -> np.ndarray:
        arrays = jax.device_put((params, x, c_noise, labels), where)
        with jax.default_matmul_precision(precision):
            network = jax.jit(lambda params, *inputs: model.apply({"params": params}, *inputs))
            return np.asarray(network(*arrays).estimate)

    wanted = output(host, "highest")
    errors = {
        precision: float(np.abs(output(device, precision) - wanted).max() / np.abs(wanted).max())
        for precision in ("highest", "default")
    }
    figures = {"benchmark": "parity", "device": device.device_kind, "jax": jax.__version__}
    figures |= {**measure.describe(config), "relative_error": errors}
    for key, value in figures.items():
        print(f"{key:>32}  {value}")
    if measure.JSON.value:
        Path(measure.JSON.value).write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    app.run(main)
